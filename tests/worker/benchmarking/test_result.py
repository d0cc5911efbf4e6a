"""A benchmark's means over edits have intervals, drawn from as many edits."""

from collections.abc import Sequence
from typing import Any

import pytest

from service.contracts.benchmarks import MethodResult
from service.contracts.scores import Drift
from tests.worker.benchmarking.kit import request
from worker.benchmarking.journal import line_of
from worker.benchmarking.plan import units_of
from worker.benchmarking.result import method_result, outcomes_of
from worker.editing.hparams import Hparams
from worker.evaluation.means import interval_of

OF_DRIFT, OF_TIME = {"perplexity_ratio", "kl"}, {"seconds_per_edit", "seconds_per_record"}


def result_of(seconds: Sequence[float], records: int, **fields: Any) -> MethodResult:
    """Of edits that took so long, each with more drift than the one before; 0 s is one that failed."""
    asked = request(**fields)
    units = units_of(asked, 0, records)
    took, done = iter(seconds), []
    for at, unit in enumerate(units):
        spent = next(took) if unit.edits else 0.0
        drift = Drift(norms={1: 0.1}, perplexity_ratio=1 + at / 10, kl=at / 100) if spent or not unit.edits else None
        done.append((unit, line_of(unit, seconds=spent, drift=drift)))
    return method_result(asked, "rome", Hparams(), done, outcomes_of(done, records))


def test_edits_one_at_a_time_are_what_is_drawn() -> None:
    found = result_of([2.0, 4.0, 0.0, 9.0], 4)
    assert found.perplexity_ratio == pytest.approx(1 + 0.4 / 3)
    assert found.kl == pytest.approx(0.04 / 3)
    assert (found.seconds_per_edit, found.seconds_per_record) == (5, 5)
    assert found.ci95 == {
        "perplexity_ratio": interval_of([1.0, 1.1, 1.3]),
        "kl": interval_of([0.0, 0.01, 0.03]),
        "seconds_per_edit": interval_of([2.0, 4.0, 9.0]),
        "seconds_per_record": interval_of([2.0, 4.0, 9.0]),
    }


def test_batches_are_drawn_with_their_sizes() -> None:
    found = result_of([8.0, 6.0, 2.0], 5, mode="batch", batch_size=2)
    assert found.seconds_per_edit == pytest.approx(16 / 3)
    assert found.seconds_per_record == 16 / 5
    assert found.ci95.keys() == OF_DRIFT | OF_TIME
    assert found.ci95["seconds_per_edit"] == interval_of([8.0, 6.0, 2.0])
    assert found.ci95["seconds_per_record"] == interval_of([8.0, 6.0, 2.0], [2, 2, 1])


def test_one_edit_has_no_interval() -> None:
    assert result_of([8.0], 4, mode="batch").ci95 == {}
    assert result_of([8.0], 1).ci95 == {}


def test_a_sequence_ends_at_one_state() -> None:
    found = result_of([3.0, 5.0], 4, mode="sequential", batch_size=2)
    assert found.perplexity_ratio == 1.3
    assert found.ci95.keys() == OF_TIME


def test_an_older_result_is_read() -> None:
    stored = result_of([2.0, 4.0], 2).model_dump(mode="json", exclude={"ci95"})
    assert MethodResult.model_validate(stored).ci95 == {}
