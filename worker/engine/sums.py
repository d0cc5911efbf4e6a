"""The sum of a layer's changes, exact: whatever the order, the grouping and the machine, the same to the last bit.

Floating point adds up differently in every order. Here all factors are rounded to fixed grids first, so coarse that
float64 holds every partial sum of their products, and so fine that what is lost is less than float32 weights can show.
So a thousand changes are one matrix product of their joined factors, and a fold has the same checksum everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.editing.delta import Change, Dense, LowRank

SOLVER_BITS = 22
"""A's columns are scaled to at most 1 and rounded to multiples of 2^-22."""

COARSE_BITS, FINE_BITS = 17, 30
"""R, in units of the layer's largest weight, is a multiple of 2^-17 and a remainder that is a multiple of 2^-30."""

MOST = 2.0**14
"""Units that a coarse sum may reach: 53 bits, less SOLVER_BITS and COARSE_BITS."""

MOST_TERMS = 2**19
"""Terms that a fine sum may have: each is at most 2^-18, in steps of 2^-52."""


@dataclass(frozen=True)
class Sum:
    """The sum of changes of one layer, [h, d], in two parts of float64 in units of `unit`.

    unit: a power of two, at least the largest weight of the layer's base; bound: [h], what no entry of a row can
    exceed however the terms are added up; terms: how many rank-one terms it has.
    """

    unit: float
    coarse: Tensor
    fine: Tensor
    bound: Tensor
    terms: int

    @classmethod
    def zero(cls, base: Tensor) -> "Sum":
        """The sum of nothing, for a layer with the base [h, d]."""
        empty = torch.zeros(base.shape, dtype=torch.float64)
        return cls(float(_power_of_two(base.double().abs().amax())), empty, empty, empty[:, 0], 0)

    def plus(self, changes: Sequence[Change]) -> "Sum":
        """With more changes: two matrix products for all that have factors."""
        low_rank = [change for change in changes if isinstance(change, LowRank)]
        found = self
        if low_rank:
            residuals = torch.cat([change.residuals for change in low_rank], dim=1)
            found = found._plus_factors(residuals, torch.cat([change.solver for change in low_rank], dim=1))
        for change in changes:
            if isinstance(change, Dense):
                found = found._plus_dense(change.change)
        return found

    def total(self) -> Tensor:
        """The sum, [h, d] float64, rounded once."""
        return (self.coarse + self.fine) * self.unit

    @property
    def is_exact(self) -> bool:
        """Whether every partial sum is sure to fit; more than this must not be committed."""
        return self.terms <= MOST_TERMS and bool((self.bound <= MOST).all())

    def _plus_factors(self, residuals: Tensor, solver: Tensor) -> "Sum":
        largest = solver.double().abs().amax(0)
        scale = _power_of_two(largest)
        on_grid = _rounded(solver.double() / scale, SOLVER_BITS)
        scaled = residuals.double() * (scale / self.unit) * (largest > 0)
        coarse = _rounded(scaled, COARSE_BITS)
        fine = _rounded(scaled - coarse, FINE_BITS)
        return Sum(
            self.unit,
            torch.addmm(self.coarse, coarse, on_grid.T),
            torch.addmm(self.fine, fine, on_grid.T),
            self.bound + coarse.abs().sum(1),
            self.terms + solver.shape[1],
        )

    def _plus_dense(self, change: Tensor) -> "Sum":
        coarse = _rounded(change.double() / self.unit, SOLVER_BITS + COARSE_BITS)
        return Sum(self.unit, self.coarse + coarse, self.fine, self.bound + coarse.abs().amax(1), self.terms)


def _power_of_two(largest: Tensor) -> Tensor:
    """The least power of two that is at least `largest`; 1 for zero."""
    mantissa, _ = torch.frexp(largest)
    power = torch.where(mantissa > 0.5, largest / mantissa, largest)  # noqa: PLR2004 - it is in [0.5, 1)
    return torch.where(largest > 0, power, torch.ones_like(largest))


def _rounded(values: Tensor, bits: int) -> Tensor:
    """Rounded to multiples of 2^-bits."""
    return torch.round(values * 2.0**bits) * 2.0**-bits
