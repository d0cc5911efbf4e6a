"""What is no number is no score."""

import math

import pytest

from service.contracts.scores import Drift, RecordScores, RecordSide
from tests.service.stand_in import fact_scores
from worker.benchmarking.scoring import NOT_FINITE, checkpoint, is_finite, outcome

DRIFT = Drift(norms={1: 0.5}, perplexity_ratio=1.0, kl=0.0)


def scores(**summary: float) -> RecordScores:
    fact = fact_scores(**summary)
    before, after = (RecordSide(summary=side.summary) for side in (fact.before, fact.after))
    return RecordScores(case_id=1, facts=(fact,), before=before, after=after)


def test_scores_are_an_outcome() -> None:
    assert outcome(scores(), 2.0).scores == scores()
    assert outcome(scores(), 2.0).seconds == 2.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_a_failure(value: float) -> None:
    assert (outcome(scores(ES_diff=value), 2.0).scores, outcome(scores(ES_diff=value), 2.0).problem) == (
        None,
        NOT_FINITE,
    )
    assert is_finite(DRIFT)
    assert not is_finite(DRIFT.model_copy(update={"kl": value}))


def test_a_checkpoint_is_of_what_could_be_scored() -> None:
    found = {at: outcome(scores(EA=float(at > 0), ES_diff=math.nan if at == 1 else 0.5), 0.0) for at in range(4)}
    point = checkpoint(2, found, range(2), range(2, 4), DRIFT)
    assert point is not None
    assert (point.records, point.first.EA, point.last.EA) == (3, 0.0, 1.0)
    assert point.all.named()["EA"] == pytest.approx(2 / 3)
    assert checkpoint(2, {}, range(2), range(2, 4), DRIFT) is None
