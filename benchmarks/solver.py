"""Ten batches through the factored solver, beside a d x d float64 solve for each batch, as MEMIT's code has it.

python -m benchmarks.solver [--d 6400] [--n 100] [--batches 10] [--json]
"""

import argparse

import torch

from benchmarks.bench import report, seconds
from worker.editing.covariance import Covariance
from worker.editing.solver import solver

WEIGHT = 15_000.0
"""lambda, as published for most models."""


def main() -> None:
    """Solve the same batches both ways, compare and print. The factorization counts among ours."""
    arguments = _arguments()
    draw = torch.Generator().manual_seed(0)
    root = torch.randn(arguments.d, 2 * arguments.d, generator=draw)
    matrix = root @ root.T / (2 * arguments.d)
    batches = [torch.randn(arguments.d, arguments.n, generator=draw) for _ in range(arguments.batches)]
    covariance = Covariance(matrix, 2 * arguments.d)
    factoring = seconds(lambda: covariance.factor)
    found = [torch.empty(0)]
    ours = [seconds(lambda keys=keys: found.append(solver(keys, covariance, WEIGHT))) for keys in batches]  # type: ignore[misc]

    def plain(keys: torch.Tensor) -> torch.Tensor:
        """From the float32 C that is kept, each time; keys are float64 before (kmeng01/memit, memit_main.py)."""
        exact = keys.double()
        solved: torch.Tensor = torch.linalg.solve(WEIGHT * matrix.double() + exact @ exact.T, exact)
        return solved

    expected = plain(batches[-1])
    theirs = [seconds(lambda keys=keys: plain(keys)) for keys in batches]  # type: ignore[misc]
    error = float((found[-1] - expected).norm() / expected.norm())
    result = {
        "ratio": sum(theirs) / (factoring + sum(ours)),
        "ratio_once_factored": sum(theirs) / sum(ours),
        "seconds_factoring": factoring,
        "seconds_per_batch": sum(ours) / len(ours),
        "plain_seconds_per_batch": sum(theirs) / len(theirs),
        "relative_error": error,
        "d": arguments.d,
        "n": arguments.n,
        "batches": arguments.batches,
        "threads": torch.get_num_threads(),
    }
    report(result, as_json=arguments.json)


def _arguments() -> argparse.Namespace:
    found = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    found.add_argument("--d", type=int, default=6400)
    found.add_argument("--n", type=int, default=100)
    found.add_argument("--batches", type=int, default=10)
    found.add_argument("--json", action="store_true")
    return found.parse_args()


if __name__ == "__main__":
    main()
