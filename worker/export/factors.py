"""A layer's change as the factors of a LoRA adapter (arXiv:2106.09685): W = W_base + B A, B [h, r] and A [r, d]."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from service.contracts.exports import LayerFidelity
from worker.editing.delta import Change, Dense, LowRank

EXACT = 2.0**-24
"""Relative error that float32 cannot show."""


class TooDenseError(Exception):
    """A change without factors needs a larger rank than is allowed; `rank` is the one that suffices."""

    def __init__(self, rank: int) -> None:
        super().__init__(f"rank {rank} is needed")
        self.rank = rank


@dataclass(frozen=True)
class Factors:
    """One layer's change: up is B, [h, r], down is A, [r, d], both float32; error: |BA - D| / |D| (Frobenius)."""

    up: Tensor
    down: Tensor
    error: float

    @property
    def rank(self) -> int:
        """r."""
        return self.up.shape[1]

    def padded(self, rank: int) -> "Factors":
        """The same change with factors of a larger rank."""
        more = rank - self.rank
        up, down = torch.nn.functional.pad(self.up, (0, more)), torch.nn.functional.pad(self.down, (0, 0, 0, more))
        return Factors(up, down, self.error)

    def fidelity(self, base: Tensor, served: Tensor) -> LayerFidelity:
        """How well they stand for the weights [h, d] that are served instead of the base's."""
        change = served.double() - base.double()
        missed = torch.addmm(change, self.up.double(), self.down.double(), alpha=-1)
        return LayerFidelity(rank=self.rank, error=self.error, rounding=_share(missed.norm(), change.norm()))


def factors_of(changes: Sequence[Change], most: int) -> Factors:
    """The sum of changes of one layer, as they are where they have few enough terms, else as few as they need.

    Changes with factors are cut to rank `most` (Eckart and Young: nothing of that rank is nearer), and the error says
    how much that is. A change without factors is not cut: raises TooDenseError.
    """
    low_rank = [change for change in changes if isinstance(change, LowRank)]
    residuals = torch.cat([change.residuals for change in low_rank], dim=1) if low_rank else None
    solver = torch.cat([change.solver for change in low_rank], dim=1) if low_rank else None
    dense = [change.change for change in changes if isinstance(change, Dense)]
    if residuals is not None and solver is not None and not dense and residuals.shape[1] <= most:
        return _balanced(residuals, solver)
    left, values, right = _decomposed(residuals, solver, dense)
    needed = _needed(values)
    if dense and needed > most:
        raise TooDenseError(needed)
    rank = min(needed, most)
    roots = values[:rank].sqrt()
    error = float(_share(values[rank:].norm(), values.norm())) if rank < needed else 0.0
    return Factors((left[:, :rank] * roots).float(), (roots[:, None] * right[:rank]).float(), error)


def _balanced(residuals: Tensor, solver: Tensor) -> Factors:
    """R and A^T with terms of equal norms, as near as powers of two come: nothing is rounded."""
    there = (residuals.norm(dim=0) > 0) & (solver.norm(dim=0) > 0)
    residuals, solver = residuals[:, there], solver[:, there]
    exponents = (torch.log2(solver.norm(dim=0) / residuals.norm(dim=0)) / 2).round()
    scale = torch.exp2(exponents)
    return Factors(residuals * scale, (solver / scale).T.contiguous(), 0.0)


def _decomposed(
    residuals: Tensor | None, solver: Tensor | None, dense: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """The singular value decomposition of the sum, in float64; by way of the factors' QR where that is less work."""
    if residuals is not None and solver is not None:
        if not dense and residuals.shape[1] < min(residuals.shape[0], solver.shape[0]):
            left_basis, left_part = torch.linalg.qr(residuals.double())
            right_basis, right_part = torch.linalg.qr(solver.double())
            left, values, right = torch.linalg.svd(left_part @ right_part.T)
            return left_basis @ left, values, right @ right_basis.T
        dense = [*dense, residuals.double() @ solver.double().T]
    total = torch.stack([change.double() for change in dense]).sum(0)
    left, values, right = torch.linalg.svd(total, full_matrices=False)
    return left, values, right


def _needed(values: Tensor) -> int:
    """The least rank whose error float32 cannot show; 0 for a change that is nothing."""
    left_out = values.square().flip(0).cumsum(0).flip(0).sqrt()
    return int((left_out > EXACT * values.norm()).sum())


def _share(part: Tensor, whole: Tensor) -> float:
    return float(part / whole) if whole > 0 else 0.0
