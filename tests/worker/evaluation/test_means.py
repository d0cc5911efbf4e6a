"""Means and their intervals against what is known of them by hand and by theory."""

import math
from statistics import fmean, harmonic_mean, stdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.contracts.scores import Generated, Summary
from worker.evaluation import means
from worker.evaluation.means import interval_of, mean_of

SHARE = st.floats(0, 1)
SUMMARY = st.builds(
    Summary,
    EA=SHARE,
    rewrite_acc=SHARE,
    PA=st.none() | SHARE,
    ES=st.none() | SHARE,
    PS=st.none() | SHARE,
    NS=st.none() | SHARE,
    locality=st.dictionaries(st.sampled_from(["a_acc", "b_acc"]), SHARE),
    generated=st.none() | st.builds(Generated, GE=st.none() | st.floats(0, 8)),
)


@settings(database=None, deadline=None, max_examples=100)
@given(st.lists(SUMMARY, min_size=1, max_size=8))
def test_a_mean_is_over_those_that_have_the_score(found: list[Summary]) -> None:
    mean = mean_of(found)
    rows = [summary.named() for summary in found]
    for name, value in mean.named().items():
        if name != "S":
            known = [row[name] for row in rows if name in row]
            assert value == pytest.approx(fmean(known))
            low, high = mean.ci95.get(name, (value, value))
            assert min(known) - 1e-9 <= low <= high <= max(known) + 1e-9
    parts = [mean.ES, mean.PS, mean.NS]
    assert (mean.S is None) is (None in parts)
    assert mean.S is None or pytest.approx(harmonic_mean([part for part in parts if part is not None])) == mean.S
    assert set(mean.ci95) == (set(mean.named()) if len(found) > 1 else set())


def test_what_never_varies_has_no_width() -> None:
    mean = mean_of([Summary(EA=1, rewrite_acc=0.25, ES=1, PS=0.5, NS=0.5)] * 5)
    assert mean.ci95["EA"] == (1, 1)
    assert mean.ci95["rewrite_acc"] == (0.25, 0.25)
    assert mean.ci95["S"] == pytest.approx((0.6, 0.6))


def test_the_width_is_that_of_theory() -> None:
    chance = np.random.default_rng(3)
    values = chance.random(400).tolist()
    mean = mean_of([Summary(EA=value, rewrite_acc=value) for value in values])
    low, high = mean.ci95["EA"]
    assert (low, high) == mean.ci95["rewrite_acc"], "the same draws for all"
    assert high - low == pytest.approx(2 * 1.96 * stdev(values) / math.sqrt(len(values)), rel=0.1)
    assert (low + high) / 2 == pytest.approx(fmean(values), abs=0.1 * (high - low))


def test_a_score_that_few_have_is_drawn_among_these() -> None:
    found = [Summary(EA=1, rewrite_acc=1)] * 30 + [Summary(EA=1, rewrite_acc=1, PA=value) for value in (0.2, 0.6)]
    mean = mean_of(found)
    assert pytest.approx(0.4) == mean.PA
    assert mean.ci95["PA"] == pytest.approx((0.2, 0.6))


def test_an_s_of_nothing_is_nothing() -> None:
    mean = mean_of([Summary(EA=1, rewrite_acc=1, ES=0, PS=0.5, NS=1)] * 3)
    assert mean.S == 0
    assert mean.ci95["S"] == (0, 0)


def test_draws_made_in_parts_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Summary(EA=value / 50, rewrite_acc=1) for value in range(50)]
    whole = mean_of(found).ci95["EA"]
    assert mean_of(found).ci95["EA"] == whole, "seeded"
    monkeypatch.setattr(means, "AT_ONCE", 1)
    assert mean_of(found).ci95["EA"] == pytest.approx(whole, abs=0.03)


def test_the_interval_of_a_list_is_that_of_a_score() -> None:
    values = np.random.default_rng(4).random(30).tolist()
    assert interval_of(values) == mean_of([Summary(EA=value, rewrite_acc=value) for value in values]).ci95["EA"]
    assert interval_of(values[:1]) is None
    assert interval_of([]) is None


def test_the_interval_of_a_ratio_is_of_pairs() -> None:
    """Batches of other sizes that take as long a record leave no doubt of a record's time."""
    assert interval_of([8.0, 6.0, 2.0], [4.0, 3.0, 1.0]) == pytest.approx((2, 2))
    low, high = interval_of([8.0, 3.0, 3.0], [4.0, 3.0, 1.0]) or (0, 0)
    assert 1 <= low < 14 / 8 < high <= 3
