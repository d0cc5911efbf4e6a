"""A delta joins with others, and knows whether it is finite."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from worker.editing.delta import Change, Dense, LowRank, WeightDelta, joined

SEEDS = st.integers(0, 2**31)
FEW = settings(max_examples=50, deadline=None, database=None)


def _draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _low_rank(seed: int, rank: int = 2, scale: float = 1.0) -> LowRank:
    return LowRank(scale * _draw(seed, 4, rank), _draw(seed + 1, 6, rank))


def test_a_delta_of_nothing_changes_nothing() -> None:
    assert torch.equal(LowRank(torch.zeros(4, 2), torch.zeros(6, 2)).dense(), torch.zeros(4, 6))


@given(SEEDS)
@FEW
def test_joined_deltas_are_their_sum(seed: int) -> None:
    first = WeightDelta({1: _low_rank(seed), 2: Dense(_draw(seed, 4, 6))}, {1: _draw(seed, 6, 2)})
    second = WeightDelta({1: _low_rank(seed + 2, 3), 2: _low_rank(seed + 3)}, {1: _draw(seed, 6, 1)})
    third = WeightDelta({3: _low_rank(seed + 4)})
    whole = joined([first, second, third])
    assert isinstance(whole.layers[1], LowRank)
    assert (whole.layers[1].residuals.shape, whole.layers[1].solver.shape) == ((4, 5), (6, 5))
    assert isinstance(whole.layers[2], Dense)
    for layer, change in whole.layers.items():
        parts = [one.layers[layer].dense() for one in (first, second, third) if layer in one.layers]
        torch.testing.assert_close(change.dense(), torch.stack(parts).sum(0), rtol=1e-5, atol=1e-6)
    assert torch.equal(whole.keys[1], torch.cat([first.keys[1], second.keys[1]], dim=1))
    assert set(whole.keys) == {1}


def test_one_delta_joined_is_itself() -> None:
    delta = WeightDelta({1: _low_rank(0)}, {1: _draw(0, 6, 2)})
    whole = joined([delta])
    assert torch.equal(whole.layers[1].dense(), delta.layers[1].dense())
    assert torch.equal(whole.keys[1], delta.keys[1])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", ["residuals", "solver", "change"])
def test_a_delta_knows_whether_it_is_finite(bad: float, where: str) -> None:
    good: dict[int, Change] = {1: _low_rank(0), 2: Dense(_draw(2, 4, 6))}
    assert WeightDelta(good).is_finite()
    broken: Change = _low_rank(0) if where != "change" else Dense(_draw(2, 4, 6))
    getattr(broken, where)[1, 1] = bad
    assert not WeightDelta({**good, 3: broken}).is_finite()
