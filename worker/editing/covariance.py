"""The keys' second moment C as the methods use it: solved with, or cut down to its null space; each factored once."""

from functools import cached_property

import torch
from torch import Tensor

from worker.editing.progress import Step, Steps


class Covariance:
    """C = E[k k^T], [d, d] (ROME, equation 2). What is derived from it is computed when first asked for, and kept.

    matrix: float32 or float64, on the CPU; count: the tokens that it is the mean over.
    """

    def __init__(self, matrix: Tensor, count: int) -> None:
        self.matrix = matrix
        self.count = count
        self.warning: str | None = None

    @property
    def size(self) -> int:
        """d."""
        return int(self.matrix.shape[0])

    @cached_property
    def factor(self) -> Tensor:
        """L, [d, d] float64, lower triangular, with L L^T = C.

        A C that is not positive definite, as one of too few tokens, gets the smallest ridge that helps: 1e-8 of its
        mean eigenvalue, or ten times as much, and so on; `warning` says so then. Of fewer than d tokens C is singular,
        even where rounding hides it.
        """
        matrix = self.matrix.double()
        factor: Tensor
        factor, failed = torch.linalg.cholesky_ex(matrix)
        singular = bool(failed) or self.count < self.size
        mean = matrix.diagonal().mean()
        for power in range(-8, 1):
            if not singular:
                break
            self.warning = (
                f"The key statistics of {self.count} tokens in {self.size} dimensions are not positive definite; "
                f"1e{power} of their mean eigenvalue was added. Raise mom2_n_tokens."
            )
            ridge = 10.0**power * mean * torch.eye(self.size, dtype=torch.float64)
            factor, failed = torch.linalg.cholesky_ex(matrix + ridge)
            singular = bool(failed)
        return factor

    def factored(self) -> Steps["Covariance"]:
        """This, with its factor computed: a step of its own, since it is O(d^3)."""
        assert self.factor is not None  # noqa: S101 - computes it
        yield Step("factor", 1, 1, warning=self.warning)
        return self

    def solve(self, keys: Tensor) -> Tensor:
        """C^-1 K, [d, N] float64, for keys [d, N]: O(d^2 N)."""
        half = torch.linalg.solve_triangular(self.factor, keys.double(), upper=False)
        solved: Tensor = torch.linalg.solve_triangular(self.factor.mT, half, upper=True)
        return solved

    @cached_property
    def _spectrum(self) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(self.matrix.double())
        return values, vectors

    def null_space(self, threshold: float) -> "NullSpace":
        """The span of the eigenvectors whose eigenvalue is below `threshold` (AlphaEdit, section 3.2)."""
        values, vectors = self._spectrum
        return NullSpace(vectors[:, values >= threshold])


class NullSpace:
    """The projection P onto what is orthogonal to `complement` [d, m], orthonormal columns."""

    def __init__(self, complement: Tensor) -> None:
        self._complement = complement

    @property
    def dimensions(self) -> int:
        """How many dimensions it has."""
        return int(self._complement.shape[0] - self._complement.shape[1])

    def warning(self, layer: int) -> str | None:
        """What is wrong with it, if it leaves no room, or forbids nothing."""
        size = int(self._complement.shape[0])
        if 0 < self.dimensions < size:
            return None
        what = (
            "has no dimension, so nothing can change" if self.dimensions == 0 else "is everything, so nothing is kept"
        )
        return f"The null space at layer {layer} {what}; choose another nullspace_threshold or more mom2_n_tokens."

    def solve(self, keys: Tensor) -> Tensor:
        """P K, [d, N] float64, for keys [d, N]."""
        keys = keys.double()
        return keys - self._complement @ (self._complement.T @ keys)


class Identity:
    """C = I."""

    def solve(self, keys: Tensor) -> Tensor:
        """K, [d, N] float64."""
        return keys.double()
