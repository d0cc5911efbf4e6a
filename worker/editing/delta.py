"""A weight delta: for each layer the change of the MLP's output projection, mostly as the factors of dW = R A^T."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class LowRank:
    """dW = R A^T, [h, d], added to the MLP output projection seen as [h, d].

    residuals: R, [h, N] float32; solver: A, [d, N] float32, for N rank-one terms.
    """

    residuals: Tensor
    solver: Tensor

    def dense(self) -> Tensor:
        """The change itself, [h, d] float32."""
        return (self.residuals.double() @ self.solver.double().T).float()

    def is_finite(self) -> bool:
        """Whether both factors are."""
        return bool(self.residuals.isfinite().all() and self.solver.isfinite().all())


@dataclass(frozen=True)
class Dense:
    """dW itself, [h, d] float32, as fine-tuning finds it."""

    change: Tensor

    def dense(self) -> Tensor:
        """The change."""
        return self.change

    def is_finite(self) -> bool:
        """Whether all of it is."""
        return bool(self.change.isfinite().all())


Change = LowRank | Dense
"""How one layer's MLP output projection changes."""


@dataclass(frozen=True)
class WeightDelta:
    """What a method computed, on the CPU.

    layers: the change of each edited layer; keys: the keys [d, N] float32 that the change of a layer was solved for,
    which a later AlphaEdit keeps as they are.
    """

    layers: Mapping[int, Change]
    keys: Mapping[int, Tensor] = field(default_factory=dict)

    def is_finite(self) -> bool:
        """Whether every change is."""
        return all(change.is_finite() for change in self.layers.values())

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors."""
        tensors = [tensor for change in self.layers.values() for tensor in vars(change).values()]
        return sum(tensor.nbytes for tensor in (*tensors, *self.keys.values()))


def joined(deltas: Sequence[WeightDelta]) -> WeightDelta:
    """One delta that says the same as several, added in order."""
    layers = sorted({layer for delta in deltas for layer in delta.layers})
    changes = {layer: _sum([delta.layers[layer] for delta in deltas if layer in delta.layers]) for layer in layers}
    solved_for = sorted({layer for delta in deltas for layer in delta.keys})
    keys = {layer: torch.cat([d.keys[layer] for d in deltas if layer in d.keys], dim=1) for layer in solved_for}
    return WeightDelta(changes, keys)


def _sum(changes: Sequence[Change]) -> Change:
    if all(isinstance(change, LowRank) for change in changes):
        low_rank = [change for change in changes if isinstance(change, LowRank)]
        return LowRank(
            torch.cat([change.residuals for change in low_rank], dim=1),
            torch.cat([change.solver for change in low_rank], dim=1),
        )
    return Dense(torch.stack([change.dense() for change in changes]).sum(0))
