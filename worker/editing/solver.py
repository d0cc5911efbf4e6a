"""The closed form behind every method: dW = R A^T with A from the keys and their second moment C."""

from typing import Protocol

import torch
from torch import Tensor

ALIKE = 0.98
"""Cosine of two keys, in the metric of C^-1, from which on one value for one is nearly the value for the other."""

LEAST_RIDGE = -10
"""Of the mean diagonal, as a power of ten: a smaller one lets rounding share out what repeated keys are asked for."""

MOST_NAMED = 5
"""Pairs of facts named in one warning."""


class Metric(Protocol):
    """What stands for C^-1: an inverse, the identity, a projection."""

    def solve(self, keys: Tensor) -> Tensor:
        """C^-1 K, [d, N] float64."""


def direction(key: Tensor, metric: Metric) -> Tensor:
    """u = C^-1 k / |C^-1 k|, [d] float64 (ROME, equation 2 and appendix A)."""
    solved = metric.solve(key[:, None])[:, 0]
    unit: Tensor = solved / solved.norm()
    return unit


def rank_one(value: Tensor, output: Tensor, key: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """R = (v* - W k) / (k . u) as [h, 1] and A = u as [d, 1], so that (W + R A^T) k = v* (ROME, equation 2)."""
    residual = (value.double() - output.double()) / torch.dot(key.double(), u)
    return residual[:, None], u[:, None]


def solver(keys: Tensor, metric: Metric, weight: float, known: Tensor | None = None) -> Tensor:
    """A = (weight C + K K^T + K_0 K_0^T)^-1 K, [d, N] float64, for keys K [d, N] (MEMIT, equation 14).

    By the push-through identity A = P (weight I + K^T P)^-1 with P = C^-1 K: O(d^2 N + N^3) once C is factored.
    known: K_0 [d, N_0], keys whose outputs are to stay as they are (AlphaEdit, equation 12): further columns of K whose
    part of A is left out.
    """
    every = keys.double() if known is None else torch.cat([known.double(), keys.double()], dim=1)
    moved = metric.solve(every)
    inner = weight * torch.eye(every.shape[1], dtype=torch.float64, device=every.device) + every.T @ moved
    wanted = torch.eye(every.shape[1], dtype=torch.float64, device=every.device)[:, -keys.shape[1] :]
    return moved @ _solved(inner, wanted)


def _solved(matrix: Tensor, wanted: Tensor) -> Tensor:
    """matrix^-1 wanted for a symmetric positive semi-definite matrix; repeated keys are given the least ridge.

    A pivot that is mere rounding counts as none: it would share out at random what is asked of repeated keys.
    """
    symmetric = (matrix + matrix.T) / 2
    mean = symmetric.diagonal().mean()
    unit = torch.eye(len(symmetric), dtype=matrix.dtype, device=matrix.device)
    factor, failed = torch.linalg.cholesky_ex(symmetric)
    for power in range(LEAST_RIDGE, 1):
        if not bool(failed) and bool(factor.diagonal().min() ** 2 > 10.0 ** (LEAST_RIDGE - 1) * mean):
            break
        factor, failed = torch.linalg.cholesky_ex(symmetric + 10.0**power * mean * unit)
    solution: Tensor = torch.cholesky_solve(wanted, factor)
    return solution


def alike(keys: Tensor, metric: Metric) -> str | None:
    """A warning that names the facts whose keys [d, N] are nearly the same, so that one value serves both; or None."""
    gram = keys.double().T @ metric.solve(keys)
    norms = gram.diagonal().clamp_min(0).sqrt()
    close = (gram / (norms[:, None] * norms)).triu(1) > ALIKE
    pairs = close.nonzero().tolist()
    if not pairs:
        return None
    named = ", ".join(f"{first} and {second}" for first, second in pairs[:MOST_NAMED])
    more = f" and {len(pairs) - MOST_NAMED} more pairs" if len(pairs) > MOST_NAMED else ""
    return f"Facts {named}{more} have nearly the same key, so what is written for one is written for the other too."
