"""A layer's change as two factors: as it is where it fits, else the nearest there is, and the error is the true one."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from worker.editing.delta import Change, Dense, LowRank
from worker.export.factors import Factors, TooDenseError, factors_of

HEIGHT, WIDTH = 6, 9

TERMS = st.lists(
    st.tuples(st.integers(0, 3), st.floats(1e-6, 1e6), st.integers(0, 2**31)),
    min_size=1,
    max_size=12,
)
"""Changes with factors: how many terms, how large, drawn with which seed."""


def low_rank(rank: int, scale: float, seed: int) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    return LowRank(
        scale * torch.randn(HEIGHT, rank, generator=generator), torch.randn(WIDTH, rank, generator=generator)
    )


def total(changes: Sequence[Change]) -> Tensor:
    """The sum in float64."""
    parts = [c.change.double() if isinstance(c, Dense) else c.residuals.double() @ c.solver.double().T for c in changes]
    return torch.stack(parts).sum(0)


def product(factors: Factors) -> Tensor:
    assert factors.up.dtype is factors.down.dtype is torch.float32
    assert factors.up.shape == (HEIGHT, factors.rank)
    assert factors.down.shape == (factors.rank, WIDTH)
    return factors.up.double() @ factors.down.double()


@given(terms=TERMS, most=st.integers(1, 12))
@settings(deadline=None, database=None)
def test_factors_are_the_nearest_of_their_rank(terms: list[tuple[int, float, int]], most: int) -> None:
    changes = [low_rank(*term) for term in terms]
    wanted = total(changes)
    factors = factors_of(changes, most)
    assert factors.rank <= most
    size = float(wanted.norm())
    best = float(torch.linalg.svdvals(wanted)[most:].norm())
    missed = float((product(factors) - wanted).norm())
    assert missed <= best + 1e-5 * size
    assert factors.error * size == pytest.approx(best, abs=1e-6 * size)


@given(terms=TERMS)
@settings(deadline=None, database=None)
def test_few_terms_are_kept_to_the_last_bit(terms: list[tuple[int, float, int]]) -> None:
    changes = [low_rank(*term) for term in terms]
    count = sum(rank for rank, *_ in terms)
    factors = factors_of(changes, max(1, count))
    assert (factors.rank, factors.error) == (count, 0.0)
    assert torch.equal(product(factors), total([LowRank(factors.up, factors.down.T)]))
    for column, row, change in zip(
        factors.up.T,
        factors.down,
        [(c.residuals[:, i], c.solver[:, i]) for c in changes for i in range(c.solver.shape[1])],
        strict=True,
    ):
        assert torch.equal(torch.outer(column.double(), row.double()), torch.outer(*(part.double() for part in change)))
        assert 1 / 3 < float(column.norm() / row.norm()) < 3


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_a_change_without_factors_needs_its_rank(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    low = torch.randn(shape[0], 3) @ torch.randn(3, shape[1])
    factors = factors_of([Dense(low)], 3)
    torch.testing.assert_close(factors.up @ factors.down, low)
    with pytest.raises(TooDenseError) as raised:
        factors_of([Dense(low)], 2)
    assert raised.value.rank == 3
    with pytest.raises(TooDenseError) as raised:
        factors_of([Dense(low), Dense(torch.randn(shape))], 5)
    assert raised.value.rank == 6


def test_changes_of_both_kinds_add_up() -> None:
    changes: list[Change] = [low_rank(2, 1.0, 1), Dense(total([low_rank(2, 1.0, 2)]).float()), low_rank(1, 1.0, 3)]
    factors = factors_of(changes, 5)
    assert (factors.rank, factors.error) == (5, 0.0)
    torch.testing.assert_close(product(factors), total(changes), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        [LowRank(torch.zeros(HEIGHT, 2), torch.ones(WIDTH, 2))],
        [Dense(torch.zeros(HEIGHT, WIDTH))],
        [Dense(torch.ones(HEIGHT, WIDTH)), Dense(-torch.ones(HEIGHT, WIDTH))],
    ],
)
def test_nothing_has_no_rank(changes: list[Change]) -> None:
    factors = factors_of(changes, 4)
    assert (factors.rank, factors.error) == (0, 0.0)


def test_terms_that_repeat_need_no_rank_of_their_own() -> None:
    terms = [low_rank(2, 1.0, 7) for _ in range(4)]
    factors = factors_of(terms, 3)
    assert (factors.rank, factors.error) == (2, 0.0)
    torch.testing.assert_close(product(factors), total(terms), rtol=1e-5, atol=1e-5)


def test_padding_changes_nothing() -> None:
    factors = factors_of([low_rank(2, 1.0, 1)], 4)
    padded = factors.padded(5)
    assert padded.rank == 5
    assert torch.equal(product(padded), product(factors))
