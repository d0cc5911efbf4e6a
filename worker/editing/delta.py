"""A weight delta: for each layer the factors of dW = R A^T."""

from collections.abc import Mapping
from dataclasses import dataclass

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
        return self.residuals @ self.solver.T


@dataclass(frozen=True)
class WeightDelta:
    """What a method computed: a low-rank change for each edited layer, on the CPU."""

    layers: Mapping[int, LowRank]

    def is_finite(self) -> bool:
        """Whether every factor is."""
        factors = [factor for change in self.layers.values() for factor in (change.residuals, change.solver)]
        return all(bool(torch.isfinite(factor).all()) for factor in factors)
