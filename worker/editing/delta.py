"""A weight delta: for each layer the change of the MLP's output projection, mostly as the factors of dW = R A^T."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

MANTISSA_BITS = 52
"""Bits in which a sum of products must fit for float64 to hold it exactly."""


@dataclass(frozen=True)
class LowRank:
    """dW = R A^T, [h, d], added to the MLP output projection seen as [h, d].

    residuals: R, [h, N] float32; solver: A, [d, N] float32, for N rank-one terms.
    """

    residuals: Tensor
    solver: Tensor

    def dense(self) -> Tensor:
        """The change itself, [h, d] float32, the same to the last bit in whatever order a machine sums it.

        The factors are rounded to grids so coarse that float64 holds every partial sum of their products exactly.
        """
        residuals, solver = self._on_grids()
        return (residuals @ solver.T).float()

    def is_finite(self) -> bool:
        """Whether both factors are."""
        return bool(self.residuals.isfinite().all() and self.solver.isfinite().all())

    def _on_grids(self) -> tuple[Tensor, Tensor]:
        """Both factors in float64, each a multiple of one power of two; the products' sums need MANTISSA_BITS bits.

        A term's scale goes into R first, so that every column of A uses its grid to the full.
        """
        terms = max(self.solver.shape[1], 1)
        bits = (MANTISSA_BITS - math.ceil(math.log2(terms))) // 2
        largest = self.solver.double().abs().amax(0)
        scale = _power_of_two(largest)
        solver = _rounded(self.solver.double() / scale, torch.ones((), dtype=torch.float64), bits)
        scaled = self.residuals.double() * scale * (largest > 0)  # what counts for nothing must coarsen no grid
        return _rounded(scaled, _power_of_two(scaled.abs().amax()), bits), solver


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


def _power_of_two(largest: Tensor) -> Tensor:
    """The least power of two that is at least `largest`; 1 for zero."""
    return torch.where(largest > 0, torch.exp2(torch.ceil(torch.log2(largest))), torch.ones_like(largest))


def _rounded(values: Tensor, largest: Tensor, bits: int) -> Tensor:
    """Rounded to multiples of largest / 2^bits."""
    quantum = largest / 2.0**bits
    return torch.round(values / quantum) * quantum
