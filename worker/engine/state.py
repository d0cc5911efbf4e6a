"""A state of the resident model, committed or not: the base plus deltas, held so that more can be added."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from worker.editing.delta import Change, WeightDelta
from worker.engine.resident import Resident
from worker.models.view import Weights


@dataclass(frozen=True)
class State:
    """sums: for each changed layer, base + deltas in order, [h, d] float32 on the CPU."""

    resident: Resident
    sums: Mapping[int, Tensor]

    def plus(self, delta: WeightDelta) -> "State":
        """The state with one delta more."""
        sums = dict(self.sums)
        for layer, change in delta.layers.items():
            known = sums[layer] if layer in sums else self.resident.base_of_layer(layer)
            sums[layer] = known + change.dense()
        return State(self.resident, sums)

    @classmethod
    def fold(cls, resident: Resident, deltas: Iterable[WeightDelta]) -> "State":
        """The base plus deltas, in order."""
        state = cls(resident, {})
        for delta in deltas:
            state = state.plus(delta)
        return state

    @cached_property
    def weights(self) -> Weights:
        """The edited weights: the sums, cast to the model's dtype."""
        return self.resident.cast(self.sums)

    def is_finite(self) -> bool:
        """Whether every edited weight is; a finite delta may be more than the model's dtype can hold."""
        return all(bool(tensor.isfinite().all()) for tensor in self.weights.values())

    def view(self, changes: Mapping[int, Change]) -> Callable[[], AbstractContextManager[None]]:
        """Makes contexts in which the model computes with this state and the changes on top of it."""
        weights = self.plus(WeightDelta(changes)).weights if changes else self.weights
        return lambda: self.resident.view([weights])
