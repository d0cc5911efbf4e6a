"""The keys' second moment C as the methods use it: solved with, or cut down to its null space; each factored once."""

from functools import cached_property

import torch
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from torch import Tensor

from worker.editing.progress import Step, Steps
from worker.errors import EditError


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
        """L, [d, d] float64, with L L^T = C; what stands above its diagonal means nothing.

        A C that is not positive definite, as one of too few tokens, gets the smallest ridge that helps: 1e-8 of its
        mean eigenvalue, or ten times as much, and so on; `warning` says so then. Of fewer than d tokens C is singular,
        even where rounding hides it. EditError if no ridge helps.
        """
        factor = None if self.count < self.size else self._cholesky(0.0)
        mean = float(self.matrix.diagonal().double().mean())
        for power in range(-8, 1):
            if factor is not None:
                return factor
            self.warning = (
                f"The key statistics of {self.count} tokens in {self.size} dimensions are not positive definite; "
                f"1e{power} of their mean eigenvalue was added. Raise mom2_n_tokens."
            )
            factor = self._cholesky(10.0**power * mean)
        detail = "the key statistics are not positive semi-definite; remove their file or replace it"
        raise EditError("statistics-refused", "hparams.mom2_dataset", detail)

    def _cholesky(self, ridge: float) -> Tensor | None:
        """L of C + ridge I, or None if that is not positive definite.

        scipy's LAPACK factors at 93 % of the rate of a matrix product, torch's at 80 %, and solves a quarter faster.
        """
        matrix = self.matrix.to(torch.float64, copy=True)
        matrix.diagonal().add_(ridge)
        try:
            factor, _ = cho_factor(matrix.numpy().T, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return None
        return torch.from_numpy(factor)

    def factored(self) -> Steps["Covariance"]:
        """This, with its factor computed: a step of its own, since it is O(d^3)."""
        assert self.factor is not None  # noqa: S101 - computes it
        yield Step("factor", 1, 1, warning=self.warning)
        return self

    def solve(self, keys: Tensor) -> Tensor:
        """C^-1 K, [d, N] float64, for keys [d, N]: O(d^2 N)."""
        solved = cho_solve((self.factor.numpy(), True), keys.to(torch.float64, copy=True).numpy(), check_finite=False)
        return torch.from_numpy(solved)

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
