"""The closed form: (W + R A^T) k = v*, along C^-1 k."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from worker.editing.delta import LowRank, WeightDelta
from worker.editing.solver import direction, rank_one

SEEDS = st.integers(0, 2**31)
FEW = settings(max_examples=50, deadline=None, database=None)


def _draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _covariance(seed: int, size: int) -> Tensor:
    root = _draw(seed, size, 4 * size)
    return root @ root.T / (4 * size)


@given(SEEDS, st.integers(1, 12), st.integers(1, 12), st.booleans())
@FEW
def test_the_new_weights_map_the_key_to_the_value(seed: int, width: int, depth: int, adjusted: bool) -> None:
    weight, key, value = _draw(seed, depth, width), _draw(seed + 1, width), _draw(seed + 2, depth)
    u = direction(key, _covariance(seed, width) if adjusted else None)
    residuals, solver = rank_one(value, weight @ key, key, u)
    assert (residuals.shape, solver.shape) == ((depth, 1), (width, 1))
    dense = LowRank(residuals, solver).dense()
    torch.testing.assert_close((weight + dense) @ key, value, rtol=1e-3, atol=1e-3)
    assert torch.linalg.matrix_rank(dense) <= 1


@given(SEEDS, st.integers(1, 12))
@FEW
def test_the_direction_is_a_unit_vector_along_the_solution(seed: int, size: int) -> None:
    key, covariance = _draw(seed, size), _covariance(seed + 1, size)
    u = direction(key, covariance)
    solved = torch.linalg.solve(covariance.double(), key.double())
    torch.testing.assert_close(u.double(), solved / solved.norm(), rtol=1e-4, atol=1e-6)
    assert u.dtype == torch.float32
    torch.testing.assert_close(direction(key, torch.eye(size)), direction(key, None))
    torch.testing.assert_close(direction(key, 1e4 * covariance), u, rtol=1e-4, atol=1e-5)


@given(SEEDS, st.integers(2, 10))
@FEW
def test_other_keys_move_least_among_all_that_map_the_key(seed: int, size: int) -> None:
    """Of all rank-one changes with the same residual direction, C^-1 k moves the average key least (equation 2)."""
    key, other, covariance = _draw(seed, size), _draw(seed + 1, size), _covariance(seed + 2, size)
    best = direction(key, covariance)

    def moved(u: Tensor) -> float:
        u = u / torch.dot(u, key)
        return float(u @ covariance @ u)

    if abs(float(torch.dot(other, key))) > 1e-2:
        assert moved(best) <= moved(other) * (1 + 1e-4)


def test_a_covariance_that_is_singular_gets_a_ridge() -> None:
    """Fewer tokens than dimensions, as a short corpus gives."""
    keys = _draw(0, 5, 20)
    covariance = keys.T @ keys / 5
    u = direction(keys[0], covariance)
    assert torch.isfinite(u).all()
    assert float(u.norm()) == pytest.approx(1)
    assert torch.isfinite(direction(keys[0], torch.diag(torch.tensor([1.0] * 19 + [0.0])))).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", ["residuals", "solver"])
def test_a_delta_knows_whether_it_is_finite(bad: float, where: str) -> None:
    good = LowRank(_draw(0, 4, 2), _draw(1, 6, 2))
    assert WeightDelta({1: good, 2: good}).is_finite()
    broken = LowRank(good.residuals.clone(), good.solver.clone())
    getattr(broken, where)[1, 1] = bad
    assert not WeightDelta({1: good, 2: broken}).is_finite()
