"""A state of the resident model, committed or not: the base plus deltas, held so that more can be added."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

from service.errors import ProblemError
from worker.editing.delta import Change, WeightDelta
from worker.engine.resident import Resident
from worker.engine.sums import Sum
from worker.models.view import Weights


@dataclass(frozen=True)
class State:
    """sums: for each changed layer the exact sum of its deltas, on the CPU."""

    resident: Resident
    sums: Mapping[int, Sum]

    def plus(self, *deltas: WeightDelta) -> "State":
        """The state with more deltas, in whatever order."""
        changes: dict[int, list[Change]] = {}
        for delta in deltas:
            for layer, change in delta.layers.items():
                changes.setdefault(layer, []).append(change)
        known = {layer: self.sums.get(layer) or Sum.zero(self.resident.base_of_layer(layer)) for layer in changes}
        added = {layer: known[layer].plus(changes[layer]) for layer in changes}
        return State(self.resident, {**self.sums, **added})

    @classmethod
    def fold(cls, resident: Resident, deltas: Iterable[WeightDelta]) -> "State":
        """The base plus deltas: one matrix product a layer, however many they are."""
        return cls(resident, {}).plus(*deltas)

    @cached_property
    def weights(self) -> Weights:
        """The edited weights: cast(base + sum of deltas) for each changed layer."""
        return self.resident.cast({layer: total.total() for layer, total in self.sums.items()})

    def is_finite(self) -> bool:
        """Whether every edited weight is; a finite delta may be more than the model's dtype can hold."""
        return all(bool(tensor.isfinite().all()) for tensor in self.weights.values())

    def check(self) -> None:
        """Raise a problem unless the sums are sure to be free of rounding: only then is a checksum certain."""
        if not all(total.is_exact for total in self.sums.values()):
            raise ProblemError(
                409,
                "too-many-edits",
                "The edits in force add up to more than can be summed exactly. Roll back, or revert some of them.",
            )

    @cached_property
    def norms(self) -> dict[int, float]:
        """|W - W_base| / |W_base| (Frobenius) of each changed layer, before W is cast."""
        return {
            layer: float(total.total().norm() / self.resident.base_of_layer(layer).double().norm())
            for layer, total in sorted(self.sums.items())
        }

    def view(self, changes: Mapping[int, Change]) -> Callable[[], AbstractContextManager[None]]:
        """Makes contexts in which the model computes with this state and the changes on top of it."""
        weights = self.plus(WeightDelta(changes)).weights if changes else self.weights
        return lambda: self.resident.view([weights])
