"""A sum of changes is exact: any order, any grouping and any number of threads give the same bits."""

from collections.abc import Sequence
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from worker.editing.delta import Change, Dense, LowRank
from worker.engine.sums import MOST, Sum

FEW = settings(max_examples=60, deadline=None, database=None)
ROWS, COLUMNS = 5, 7


def _draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _change(kind: str, seed: int, terms: int, scale: float) -> Change:
    """Factors share a magnitude in every possible way; `zero` has a column that counts for nothing."""
    if kind == "dense":
        return Dense(scale * _draw(seed, ROWS, COLUMNS))
    spread = 2.0 ** torch.randint(-60, 60, (terms,), generator=torch.Generator().manual_seed(seed))
    residuals, solver = _draw(seed, ROWS, terms) * spread, _draw(seed + 1, COLUMNS, terms) / spread * scale
    if kind == "zero":
        solver[:, 0] = 0
    return LowRank(residuals, solver)


CHANGES = st.lists(
    st.builds(
        _change,
        st.sampled_from(["factors", "factors", "zero", "dense"]),
        st.integers(0, 2**31),
        st.sampled_from([1, 2, 3, 40]),
        st.sampled_from([1e-20, 1e-6, 1e-2, 1.0]),
    ),
    min_size=1,
    max_size=6,
)
BASES = st.builds(
    lambda seed, scale: scale * _draw(seed, ROWS, COLUMNS), st.integers(0, 2**31), st.sampled_from([0.03, 1.0, 5.0])
)


def _bits(total: Sum) -> tuple[bytes, ...]:
    return total.coarse.numpy().tobytes(), total.fine.numpy().tobytes(), total.total().numpy().tobytes()


def _plus_zero(bits: tuple[bytes, ...]) -> list[Tensor]:
    """As numbers: 0 and -0 are the same sum."""
    return [torch.frombuffer(bytearray(part), dtype=torch.float64) for part in bits]


def _same(first: Sum, second: Sum) -> bool:
    return all(torch.equal(a, b) for a, b in zip(_plus_zero(_bits(first)), _plus_zero(_bits(second)), strict=True))


@given(base=BASES, changes=CHANGES, data=st.data())
@FEW
def test_order_and_grouping_do_not_matter(base: Tensor, changes: Sequence[Change], data: st.DataObject) -> None:
    at_once = Sum.zero(base).plus(changes)
    one_by_one = Sum.zero(base)
    for change in data.draw(st.permutations(changes)):
        one_by_one = one_by_one.plus([change])
    assert at_once.is_exact
    assert _same(at_once, one_by_one)
    assert (at_once.terms, at_once.unit) == (one_by_one.terms, one_by_one.unit)


@given(base=BASES, changes=CHANGES)
@FEW
def test_a_sum_is_what_its_parts_are_exactly(base: Tensor, changes: Sequence[Change]) -> None:
    """Against fractions, entry by entry: nothing is rounded but the parts themselves."""
    parts = [Sum.zero(base).plus([change]) for change in changes]
    whole = Sum.zero(base).plus(changes)
    for name in ("coarse", "fine"):
        entries = zip(*(getattr(part, name).flatten().tolist() for part in parts), strict=True)
        exact = [sum(map(Fraction, entry), Fraction(0)) for entry in entries]
        assert [Fraction(entry) for entry in getattr(whole, name).flatten().tolist()] == exact


@given(base=BASES, changes=CHANGES)
@FEW
def test_what_rounding_costs_is_below_what_the_weights_can_show(base: Tensor, changes: Sequence[Change]) -> None:
    found = Sum.zero(base).plus(changes)
    exact, allowed = torch.zeros(ROWS, COLUMNS).double(), 0.0
    for change in changes:
        if isinstance(change, LowRank):
            terms = change.residuals.double().abs().amax(0) * change.solver.double().abs().amax(0)
            exact += change.residuals.double() @ change.solver.double().T
            allowed += 2.0**-22 * float(terms.sum()) * 2 + 2.0**-31 * found.unit * len(terms)
        else:
            exact += change.change.double()
            allowed += 2.0**-40 * found.unit
    assert float((found.total() - exact).abs().max()) <= allowed + 1e-15 * float(exact.abs().max())


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("terms", [1, 37, 1000])
def test_it_is_the_same_with_one_thread_and_with_two(terms: int) -> None:
    """Of matrices so large that a product of them is shared among threads."""
    base, change = _draw(0, 384, 1024), LowRank(_draw(1, 384, terms), _draw(2, 1024, terms))
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(_bits(Sum.zero(base).plus([change])))
    assert found[0] == found[1]


def test_a_sum_that_might_be_rounded_says_so() -> None:
    base, change = torch.ones(2, 3), LowRank(torch.full((2, 1), MOST / 2), torch.ones(3, 1))
    twice = Sum.zero(base).plus([change, change])
    assert twice.is_exact
    assert not twice.plus([change]).is_exact
    assert not Sum.zero(base).plus([LowRank(torch.full((2, 1), torch.inf), torch.ones(3, 1))]).is_exact
    many = LowRank(torch.zeros(2, 2**19 + 1), torch.zeros(3, 2**19 + 1))
    assert not Sum.zero(base).plus([many]).is_exact


def test_the_sum_of_nothing_is_zero() -> None:
    assert not Sum.zero(torch.zeros(2, 3)).plus([LowRank(torch.zeros(2, 4), torch.zeros(3, 4))]).total().any()
