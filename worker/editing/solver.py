"""The closed form behind every method: dW = R A^T with A from the keys and their second moment C."""

import torch
from torch import Tensor


def direction(key: Tensor, covariance: Tensor | None) -> Tensor:
    """u = C^-1 k / |C^-1 k|, [d] float32 (ROME, equation 2 and appendix A); C = I where there is none.

    Solved in float64 by Cholesky; a C that is not positive definite, as one of too few tokens, gets the smallest ridge
    that helps: 1e-8 of its mean eigenvalue, or ten times as much, and so on.
    """
    if covariance is None:
        return _unit(key)
    matrix = covariance.double()
    factor, failed = torch.linalg.cholesky_ex(matrix)
    unit = matrix.diagonal().mean() * torch.eye(len(matrix), dtype=torch.float64)
    for power in range(-8, 1):
        if not bool(failed):
            break
        factor, failed = torch.linalg.cholesky_ex(matrix + 10.0**power * unit)
    solved: Tensor = torch.cholesky_solve(key.double()[:, None], factor)[:, 0]
    return _unit(solved).float()


def _unit(vector: Tensor) -> Tensor:
    unit: Tensor = vector / vector.norm()
    return unit


def rank_one(value: Tensor, output: Tensor, key: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """R = (v* - W k) / (k . u) as [h, 1] and A = u as [d, 1], so that (W + R A^T) k = v* (ROME, equation 2)."""
    return ((value - output) / torch.dot(key, u))[:, None], u[:, None]
