"""The closed form: what it solves, against the plain d x d solve and the published forms of each method."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from worker.editing.covariance import Covariance, Identity, NullSpace
from worker.editing.delta import LowRank
from worker.editing.solver import MOST_NAMED, Metric, alike, direction, rank_one, solver

SEEDS = st.integers(0, 2**31)
SIZES = st.integers(1, 24)
COUNTS = st.integers(1, 8)
WEIGHTS = st.sampled_from([1e-3, 0.1, 1.0, 20.0, 15000.0])
FEW = settings(max_examples=50, deadline=None, database=None)


def _draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _matrix(seed: int, size: int) -> Tensor:
    root = _draw(seed, size, 4 * size)
    return root @ root.T / (4 * size)


def _covariance(seed: int, size: int) -> Covariance:
    return Covariance(_matrix(seed, size), 4 * size)


def _close(found: Tensor, expected: Tensor, tolerance: float = 1e-8) -> None:
    assert found.dtype == torch.float64
    assert float((found - expected).norm()) <= tolerance * float(expected.norm()) + 1e-14


@given(SEEDS, st.integers(1, 12), st.integers(1, 12), st.booleans())
@FEW
def test_the_new_weights_map_the_key_to_the_value(seed: int, width: int, depth: int, adjusted: bool) -> None:
    weight, key, value = _draw(seed, depth, width), _draw(seed + 1, width), _draw(seed + 2, depth)
    u = direction(key, _covariance(seed, width) if adjusted else Identity())
    residuals, along = rank_one(value, weight @ key, key, u)
    assert (residuals.shape, along.shape) == ((depth, 1), (width, 1))
    _close((weight + residuals @ along.T) @ key, value)
    dense = LowRank(residuals.float(), along.float()).dense()
    torch.testing.assert_close((weight.float() + dense) @ key.float(), value.float(), rtol=1e-3, atol=1e-3)
    assert torch.linalg.matrix_rank(dense) <= 1


@given(SEEDS, st.integers(1, 12))
@FEW
def test_the_direction_is_a_unit_vector_along_the_solution(seed: int, size: int) -> None:
    key, covariance = _draw(seed, size), _covariance(seed + 1, size)
    u = direction(key, covariance)
    solved = torch.linalg.solve(covariance.matrix, key)
    _close(u, solved / solved.norm())
    _close(direction(key, Covariance(torch.eye(size), size)), direction(key, Identity()))
    _close(direction(key, Covariance(1e4 * covariance.matrix, 4 * size)), u)


@given(SEEDS, st.integers(2, 10))
@FEW
def test_other_keys_move_least_among_all_that_map_the_key(seed: int, size: int) -> None:
    """Of all rank-one changes with the same residual direction, C^-1 k moves the average key least (equation 2)."""
    key, other, covariance = _draw(seed, size), _draw(seed + 1, size), _covariance(seed + 2, size)
    best = direction(key, covariance)

    def moved(u: Tensor) -> float:
        u = u / torch.dot(u, key)
        return float(u @ covariance.matrix @ u)

    if abs(float(torch.dot(other, key))) > 1e-2:
        assert moved(best) <= moved(other) * (1 + 1e-8)


@given(SEEDS, SIZES, COUNTS, st.integers(0, 5), WEIGHTS)
@FEW
def test_the_solver_is_the_direct_solve(seed: int, size: int, count: int, known: int, weight: float) -> None:
    """(weight C + K K^T + K_0 K_0^T)^-1 K, as MEMIT's equation 14 says it."""
    keys, before, covariance = _draw(seed, size, count), _draw(seed + 1, size, known), _covariance(seed + 2, size)
    direct = torch.linalg.solve(weight * covariance.matrix + keys @ keys.T + before @ before.T, keys)
    _close(solver(keys, covariance, weight, before), direct)
    if known == 0:
        _close(solver(keys, covariance, weight), direct)


@given(SEEDS, SIZES, WEIGHTS)
@FEW
def test_of_one_fact_it_is_a_shrunk_direction(seed: int, size: int, weight: float) -> None:
    """A = C^-1 k / (weight + k^T C^-1 k): ROME's direction, by Sherman and Morrison."""
    key, covariance = _draw(seed, size), _covariance(seed + 1, size)
    solved = torch.linalg.solve(covariance.matrix, key)
    found = solver(key[:, None], covariance, weight)[:, 0]
    _close(found, solved / (weight + key @ solved))
    _close(found / found.norm(), direction(key, covariance))


@given(SEEDS, SIZES, st.integers(1, 6))
@FEW
def test_rome_is_the_limit_of_no_weight(seed: int, size: int, depth: int) -> None:
    key, lacking, covariance = _draw(seed, size), _draw(seed + 1, depth), _covariance(seed + 2, size)
    residuals, along = rank_one(lacking, torch.zeros(depth), key, direction(key, covariance))
    rome = residuals @ along.T
    _close(lacking[:, None] @ solver(key[:, None], covariance, 0.0).T, rome)
    scale = float(key @ torch.linalg.solve(covariance.matrix, key))
    far, near = (
        float((lacking[:, None] @ solver(key[:, None], covariance, weight * scale).T - rome).norm())
        for weight in (1e-2, 1e-6)
    )
    assert near <= 1e-3 * far


@given(SEEDS, SIZES, st.integers(2, 8), st.sampled_from([1.0, 1000.0]), st.sampled_from([0.01, 0.1, 1.0]))
@FEW
def test_emmet_is_memit_at_one_layer(seed: int, size: int, count: int, weight: float, ridge: float) -> None:
    """EMMET's published form, (w C)^-1 K (K^T (w C)^-1 K + eps I)^-1, has lambda = w eps."""
    keys, covariance = _draw(seed, size, count), _covariance(seed + 1, size)
    moved = torch.linalg.solve(weight * covariance.matrix, keys)
    published = torch.linalg.solve(keys.T @ moved + ridge * torch.eye(count, dtype=torch.float64), moved.T).T
    _close(solver(keys, covariance, weight * ridge), published)


@given(SEEDS, st.integers(2, 24), COUNTS, st.integers(0, 5), st.sampled_from([0.1, 1.0, 10.0]))
@FEW
def test_alphaedits_published_form(seed: int, size: int, count: int, known: int, ridge: float) -> None:
    """[P (K K^T + K_p K_p^T) + L2 I]^-1 P K (AlphaEdit, equation 12)."""
    keys, before, covariance = _draw(seed, size, count), _draw(seed + 1, size, known), _covariance(seed + 2, size)
    values, vectors = torch.linalg.eigh(covariance.matrix)
    threshold = float(values[size // 2 - 1 : size // 2 + 1].mean())
    vectors = vectors[:, values < threshold]
    projection = vectors @ vectors.T
    every = keys @ keys.T + before @ before.T
    published = torch.linalg.solve(projection @ every + ridge * torch.eye(size, dtype=torch.float64), projection @ keys)
    assert vectors.shape[1] == size // 2
    _close(solver(keys, covariance.null_space(threshold), ridge, before), published)


@pytest.mark.parametrize(
    "metric_of", [Identity, lambda: _covariance(3, 16), lambda: NullSpace(torch.eye(16, dtype=torch.float64)[:, :4])]
)
@pytest.mark.parametrize("weight", [0.0, 1e-6, 20.0])
def test_repeated_keys_stay_finite_and_are_named(metric_of: Callable[[], Metric], weight: float) -> None:
    """As when two facts have the same subject: without a weight, what is to be solved is singular."""
    metric = metric_of()
    keys = _draw(0, 16, 4)
    keys[:, 3] = keys[:, 1]
    found = solver(keys, metric, weight)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found[:, 1], found[:, 3], rtol=1e-4, atol=1e-6)
    warning = alike(keys, metric)
    assert warning is not None
    assert "Facts 1 and 3 have" in warning
    if weight < 1:
        # What is asked for twice is shared: each takes a half, and together they map the key.
        values = torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=torch.float64)
        assert float(values @ (found.T @ keys[:, 1])) == pytest.approx(1, rel=1e-3)


def test_keys_that_differ_are_not_named() -> None:
    assert alike(_draw(0, 16, 8), _covariance(1, 16)) is None
    assert alike(_draw(0, 16, 1), Identity()) is None
    assert alike(torch.zeros(16, 2), Identity()) is None


def test_the_metric_decides_what_is_alike() -> None:
    """Two keys that agree but for a direction that other keys never take are far apart where C says so."""
    keys = torch.tensor([[1.0, 1.0], [0.1, -0.1]], dtype=torch.float64)
    assert alike(keys, Identity()) is not None
    assert alike(keys, Covariance(torch.diag(torch.tensor([1.0, 1e-3])), 100)) is None


def test_few_pairs_are_named_and_the_others_counted() -> None:
    warning = alike(_draw(0, 16, 1).expand(16, 5), Identity())
    assert warning is not None
    assert f"0 and 1, 0 and 2, 0 and 3, 0 and 4, 1 and 2 and {10 - MOST_NAMED} more pairs" in warning
