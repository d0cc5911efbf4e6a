"""What the methods make of C: its inverse, with a ridge where it has none, and its null space."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.driving import finish_noting
from worker.editing.covariance import Covariance, Identity, NullSpace
from worker.errors import EditError

SEEDS = st.integers(0, 2**31)
FEW = settings(max_examples=50, deadline=None, database=None)


def _draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _of_tokens(seed: int, size: int, tokens: int) -> Covariance:
    keys = _draw(seed, tokens, size)
    return Covariance((keys.T @ keys / tokens).float(), tokens)


@given(SEEDS, st.integers(1, 20), st.integers(1, 4))
@FEW
def test_the_inverse_is_the_inverse(seed: int, size: int, count: int) -> None:
    covariance, keys = _of_tokens(seed, size, 20 * size), _draw(seed + 1, size, count)
    expected = torch.linalg.solve(covariance.matrix.double(), keys)
    torch.testing.assert_close(covariance.solve(keys), expected, rtol=1e-9, atol=1e-12)
    assert covariance.solve(keys.float()).dtype == torch.float64
    assert covariance.warning is None


@given(SEEDS, st.integers(2, 20), st.data())
@FEW
def test_too_few_tokens_get_a_ridge_and_a_warning(seed: int, size: int, data: st.DataObject) -> None:
    tokens = data.draw(st.integers(1, size - 1))
    covariance, keys = _of_tokens(seed, size, tokens), _draw(seed + 1, size, 3)
    _, (step,) = finish_noting(covariance.factored())
    found = covariance.solve(keys)
    assert torch.isfinite(found).all()
    if step.warning is None:
        return  # rounding to float32 happened to make it positive definite
    assert f"{tokens} tokens in {size} dimensions" in step.warning
    assert "mom2_n_tokens" in step.warning
    said = re.search(r"1e-\d", step.warning)
    assert said is not None
    matrix = covariance.matrix.double()
    ridge = float(said.group()) * matrix.diagonal().mean() * torch.eye(size, dtype=torch.float64)
    expected = torch.linalg.solve(matrix + ridge, keys)
    assert float((found - expected).norm()) <= 1e-3 * float(expected.norm())


def test_a_covariance_that_is_singular_gets_a_ridge() -> None:
    """Fewer tokens than dimensions, as a short corpus gives, and a dimension that no key uses."""
    few = _of_tokens(0, 20, 5)
    unused = Covariance(torch.diag(torch.tensor([1.0] * 19 + [0.0])), 100)
    for covariance in (few, unused):
        assert torch.isfinite(covariance.solve(_draw(1, 20, 2))).all()
        assert covariance.warning is not None
        assert "not positive definite" in covariance.warning


def test_what_is_no_second_moment_is_refused() -> None:
    with pytest.raises(EditError, match="not positive semi-definite"):
        Covariance(-torch.eye(3), 100).solve(_draw(1, 3, 2))


def test_factoring_happens_once_and_is_a_step() -> None:
    covariance = _of_tokens(0, 6, 60)
    _, steps = finish_noting(covariance.factored())
    assert [(step.phase, step.step, step.steps, step.warning) for step in steps] == [("factor", 1, 1, None)]
    assert covariance.factor is covariance.factor


@given(SEEDS, st.integers(2, 20), st.data())
@FEW
def test_the_projection_onto_the_null_space(seed: int, size: int, data: st.DataObject) -> None:
    covariance, keys = _of_tokens(seed, size, 20 * size), _draw(seed + 1, size, 4)
    values, vectors = torch.linalg.eigh(covariance.matrix.double())
    inside = data.draw(st.integers(1, size - 1))
    threshold = float(values[inside - 1 : inside + 1].mean())
    null_space = covariance.null_space(threshold)
    projected = null_space.solve(keys)
    assert null_space.dimensions == int((values < threshold).sum())
    torch.testing.assert_close(projected, vectors[:, values < threshold] @ vectors[:, values < threshold].T @ keys)
    torch.testing.assert_close(null_space.solve(projected), projected)
    torch.testing.assert_close(keys.T @ projected, projected.T @ keys)
    moved = projected.T @ covariance.matrix.double() @ projected
    assert bool((moved.diagonal() <= threshold * projected.norm(dim=0) ** 2 + 1e-12).all())
    if 0 < null_space.dimensions < size:
        assert null_space.warning(1) is None


@pytest.mark.parametrize(("threshold", "says"), [(1e-12, "nothing can change"), (1e12, "nothing is kept")])
def test_a_null_space_that_is_nothing_or_everything_warns(threshold: float, says: str) -> None:
    keys = _draw(1, 6, 3)
    null_space = _of_tokens(0, 6, 60).null_space(threshold)
    warning = null_space.warning(4)
    assert warning is not None
    assert says in warning
    assert "layer 4" in warning
    assert "nullspace_threshold" in warning
    expected = keys if null_space.dimensions else torch.zeros_like(keys)
    torch.testing.assert_close(null_space.solve(keys), expected)


def test_the_identity_changes_nothing() -> None:
    keys = _draw(0, 5, 2).float()
    assert torch.equal(Identity().solve(keys), keys.double())
    assert torch.equal(NullSpace(torch.empty(5, 0, dtype=torch.float64)).solve(keys), keys.double())
