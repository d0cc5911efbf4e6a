"""Traces with real processes: numbers and pictures of any revision, in their turn, handed over by workers that die."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from service.contracts.edits import EditStatus
from service.contracts.jobs import JobStatus
from service.contracts.traces import Kind, Trace, TraceRequest
from tests.conftest import _free_port
from tests.e2e.kit import FACT, Place, open_place, until
from tests.families import LAYERS

LONG = "Yes, " * 20 + FACT["prompt"]
"""A prompt whose trace takes a worker a while."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with open_place(tmp_path_factory.mktemp("traces"), _free_port) as opened:
        yield opened


def ask(place: Place, **fields: Any) -> Trace:
    given = {"prompt": FACT["prompt"], "subject": FACT["subject"], **fields}
    return place.client.traces.submit(TraceRequest.model_validate(given))


def ended(place: Place, trace_id: str) -> Trace:
    list(place.client.traces.events(trace_id))
    return place.client.traces.get(trace_id)


def at_some_step(place: Place, trace_id: str) -> None:
    def begun() -> bool:
        trace = place.client.traces.get(trace_id)
        assert not trace.status.ended, trace.status
        return trace.progress is not None and trace.progress.phase == "restore"

    until(begun, place.says)


def test_an_edits_answer_is_traced_before_and_after_it(place: Place) -> None:
    place.hire()
    edit = place.ended(place.submit().id)
    assert edit.status is EditStatus.APPLIED
    checksums = place.checksums()
    base, edited = (ended(place, ask(place, revision=r, target=FACT["target_new"]).id) for r in ("base", "head"))
    for trace, revision in ((base, 0), (edited, edit.revision)):
        assert (trace.status, trace.revision) == (JobStatus.COMPLETED, revision), trace.problem
        assert trace.result is not None
        assert trace.result.checksum == checksums[revision or 0]
        assert list(trace.result.effects) == list(Kind)
        for effects in trace.result.effects.values():
            assert [len(row) for row in effects.mean] == [LAYERS] * len(trace.result.tokens)
        assert place.client.traces.picture(trace.id).startswith(b"\x89PNG")
    assert base.result is not None
    assert edited.result is not None
    assert edit.outcome is not None
    scores = edit.outcome.facts[0]
    assert base.result.high == pytest.approx(scores.before.target_new.probability, rel=1e-3)
    assert edited.result.high == pytest.approx(scores.after.target_new.probability, rel=1e-3)
    assert place.checksums() == checksums, "tracing makes no revision"


@pytest.mark.parametrize(("number", "attempts"), [(signal.SIGTERM, 1), (signal.SIGKILL, 2)])
def test_a_worker_that_goes_leaves_its_trace_to_the_next(place: Place, number: int, attempts: int) -> None:
    worker = place.hire()
    head = place.client.rollback(0).revision
    trace = ask(place, prompt=LONG, samples=100)
    at_some_step(place, trace.id)
    worker.signal(number)
    assert worker.ended() == (0 if number == signal.SIGTERM else -number)
    left = place.client.traces.get(trace.id)
    if number == signal.SIGTERM:
        assert (left.status, left.attempts, left.progress) == (JobStatus.QUEUED, 0, None)
    assert left.revision == head
    place.hire()
    found = ended(place, trace.id)
    assert (found.status, found.attempts, found.revision) == (JobStatus.COMPLETED, attempts, head)


def test_a_running_trace_is_cancelled_while_readers_are_answered(place: Place) -> None:
    place.hire()
    trace, after = ask(place, prompt=LONG, samples=100), ask(place)
    at_some_step(place, trace.id)
    assert place.client.traces.get(after.id).position == 1
    answer = place.http.get("/generate", params={"prompt": FACT["prompt"], "max_new_tokens": 2})
    assert answer.is_success
    assert place.client.traces.get(trace.id).status is JobStatus.RUNNING
    place.client.traces.cancel(trace.id)
    assert ended(place, trace.id).status is JobStatus.CANCELLED
    assert ended(place, after.id).status is JobStatus.COMPLETED
