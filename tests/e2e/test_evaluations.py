"""Evaluations with real processes: after a revert, in their turn, handed over by workers that stop or die."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from service.contracts.edits import EditStatus
from service.contracts.evaluations import Evaluation, EvaluationRequest
from service.contracts.jobs import JobStatus
from tests.conftest import _free_port
from tests.e2e.kit import FACT, SLOW, Place, open_place, until

OTHER: dict[str, Any] = {"prompt": "Michael Jordan plays", "subject": "Michael Jordan", "target_new": "basketball"}
MANY = [
    {**FACT, "prompt": f"{number}. {FACT['prompt']}", "paraphrases": [f"{number}. He plays {word}" for word in "abc"]}
    for number in range(800)
]
"""Facts that take a worker a while."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with open_place(tmp_path_factory.mktemp("evaluations"), _free_port) as opened:
        yield opened


def evaluate(place: Place, **body: Any) -> Evaluation:
    return place.client.evaluations.submit(EvaluationRequest.model_validate(body))


def ended(place: Place, evaluation_id: str) -> Evaluation:
    list(place.client.evaluations.events(evaluation_id))
    return place.client.evaluations.get(evaluation_id)


def at_some_step(place: Place, evaluation_id: str) -> None:
    def begun() -> bool:
        evaluation = place.client.evaluations.get(evaluation_id)
        assert not evaluation.status.ended, evaluation.status
        return evaluation.progress is not None and evaluation.progress.step > 0

    until(begun, place.says)


def test_what_is_left_after_a_revert_is_scored_again(place: Place) -> None:
    place.hire()
    first, second = (place.ended(place.submit(**fact).id) for fact in (FACT, OTHER))
    assert (first.status, second.status) == (EditStatus.APPLIED, EditStatus.APPLIED)
    found = ended(place, evaluate(place, revision=first.revision, facts=[FACT]).id)
    assert (found.status, found.revision) == (JobStatus.COMPLETED, first.revision), found.problem
    assert found.result is not None
    assert first.outcome is not None
    (scores,) = found.result.facts
    assert (scores.before, scores.after) == (first.outcome.facts[0].before, first.outcome.facts[0].after)
    assert found.result.drift == first.outcome.drift
    before = place.checksums()
    reverted = place.client.revert(first.id)
    assert reverted.rescore is not None
    left = ended(place, place.client.evaluations.submit(reverted.rescore).id)
    assert left.result is not None
    assert [(fact.edit, fact.prompt) for fact in left.result.facts] == [(second.id, OTHER["prompt"])]
    assert left.result.checksum == reverted.revision.checksum
    both = ended(place, evaluate(place, revision=second.revision).id)
    assert both.result is not None
    assert [fact.edit for fact in both.result.facts] == [first.id, second.id]
    assert place.checksums() == [*before, reverted.revision.checksum], "scoring makes no revision"


def test_edits_and_evaluations_take_turns(place: Place) -> None:
    worker = place.hire()
    running = place.submit(hparams=SLOW)
    place.at_value_step(running.id)
    early = evaluate(place)
    edit = place.submit(**OTHER)
    late, dropped = evaluate(place), evaluate(place)
    assert place.client.evaluations.cancel(dropped.id).status is JobStatus.CANCELLED
    assert [place.client.evaluations.get(each.id).position for each in (early, late)] == [1, 3]
    worker.kill()
    for key in place.redis.keys("rq:*"):
        place.redis.delete(key)
    place.client.edits.cancel(running.id)
    place.hire()
    revision = place.ended(edit.id).revision
    assert revision is not None
    found = [ended(place, each.id) for each in (early, late)]
    assert [each.status for each in found] == [JobStatus.COMPLETED] * 2
    assert [each.revision for each in found] == [revision - 1, revision], "the head, each in its turn"
    assert place.client.evaluations.get(dropped.id).started_at is None


@pytest.mark.parametrize(("number", "attempts"), [(signal.SIGTERM, 1), (signal.SIGKILL, 2)])
def test_a_worker_that_goes_leaves_its_evaluation_to_the_next(place: Place, number: int, attempts: int) -> None:
    worker = place.hire()
    head = place.client.rollback(0).revision
    evaluation = evaluate(place, facts=MANY)
    at_some_step(place, evaluation.id)
    worker.signal(number)
    assert worker.ended() == (0 if number == signal.SIGTERM else -number)
    left = place.client.evaluations.get(evaluation.id)
    if number == signal.SIGTERM:
        assert (left.status, left.attempts, left.progress) == (JobStatus.QUEUED, 0, None)
    assert left.revision == head
    place.hire()
    place.client.rollback(0)
    found = ended(place, evaluation.id)
    assert (found.status, found.attempts, found.revision) == (JobStatus.COMPLETED, attempts, head)
    assert found.result is not None
    assert len(found.result.facts) == len(MANY)


def test_a_running_evaluation_is_cancelled_while_readers_are_answered(place: Place) -> None:
    place.hire()
    evaluation = evaluate(place, facts=MANY)
    at_some_step(place, evaluation.id)
    answer = place.http.get("/generate", params={"prompt": FACT["prompt"], "max_new_tokens": 2})
    assert answer.is_success
    assert place.client.evaluations.get(evaluation.id).status is JobStatus.RUNNING
    place.client.evaluations.cancel(evaluation.id)
    assert ended(place, evaluation.id).status is JobStatus.CANCELLED
