"""The closed form behind every method: dW = R A^T with A from the keys and their second moment C."""

import torch
from torch import Tensor


def direction(key: Tensor, covariance: Tensor | None) -> Tensor:
    """u = C^-1 k / |C^-1 k|, [d] float32 (ROME, equation 2 and appendix A); C = I where there is none.

    Solved in float64 by Cholesky; a C that is not positive definite gets a ridge of 1e-8 of its mean eigenvalue.
    """
    if covariance is None:
        return _unit(key)
    matrix = covariance.double()
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if bool(failed):
        ridge = 1e-8 * matrix.diagonal().mean()
        factor = torch.linalg.cholesky(matrix + ridge * torch.eye(len(matrix), dtype=torch.float64))
    solved: Tensor = torch.cholesky_solve(key.double()[:, None], factor)[:, 0]
    return _unit(solved).float()


def _unit(vector: Tensor) -> Tensor:
    unit: Tensor = vector / vector.norm()
    return unit


def rank_one(value: Tensor, output: Tensor, key: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """R = (v* - W k) / (k . u) as [h, 1] and A = u as [d, 1], so that (W + R A^T) k = v* (ROME, equation 2)."""
    return ((value - output) / torch.dot(key, u))[:, None], u[:, None]
