"""What is each kind's own, and that jobs of all kinds are run in the order in which they came."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from service.contracts.edits import AnyEditRequest, EditStatus
from service.contracts.evaluations import EvaluationRequest
from service.contracts.jobs import JobStatus
from service.contracts.problem import Problem
from service.contracts.traces import MOST_TOKENS, TraceRequest
from service.errors import not_found
from service.jobs import Jobs
from service.keys import Keys
from service.ledger import EditEndedError
from tests.driving import finish
from tests.families import tiny_model
from tests.worker.engine.kit import Stand, random_delta
from tests.worker.job_desk import CARD, FACT, REQUEST, SCORE, TRACE, Desk
from worker.editing.progress import Step
from worker.engine.evaluator import Evaluator
from worker.engine.tracer import Tracer
from worker.errors import CorruptStateError
from worker.jobs import EditJob, EvaluationJob, Line, TraceJob


@pytest.fixture
def open_desk(redis: Redis, keys: Keys) -> Iterator[Callable[[str], Desk]]:
    """Opens a desk of a kind."""
    opened: list[Desk] = []

    def open_one(noun: str) -> Desk:
        opened.append(Desk(redis, keys, noun))
        return opened[-1]

    yield open_one
    for desk in opened:
        desk.close()


@pytest.fixture
def stand(redis: Redis, keys: Keys, tmp_path: Path) -> Stand:
    """A tiny llama at r0."""
    return Stand(redis, keys, tiny_model("llama"), tmp_path)


def evaluation_job(desk: Desk, stand: Stand) -> EvaluationJob:
    """The job as a worker has it."""
    start = Evaluator(stand.history, stand.ledger, stand.edits).run
    ending = (desk.draining, desk.stop, desk.fence)
    return EvaluationJob(desk.evaluations, desk.thread, CARD, len, stand.ledger.resolve, start, *ending)


def trace_job(desk: Desk, stand: Stand) -> TraceJob:
    """The same of a trace."""
    start = Tracer(stand.history, stand.ledger).run
    ending = (desk.draining, desk.stop, desk.fence)
    return TraceJob(desk.traces, desk.thread, CARD, len, stand.ledger.resolve, start, *ending)


def problem_of(jobs: Jobs[Any, Any], job_id: str) -> Problem:
    job = jobs.get(job_id)
    assert job.status == "failed"
    assert isinstance(job.problem, Problem)
    return job.problem


LONG = "Rome " * 50 + "is"


@pytest.mark.parametrize(
    ("noun", "request_", "name"),
    [
        ("edit", REQUEST.model_copy(update={"method": "romme"}), "unknown-method"),
        ("edit", REQUEST.model_copy(update={"prompt": LONG}), "too-long"),
        ("evaluation", EvaluationRequest(facts=(FACT.model_copy(update={"paraphrases": (LONG,)}),)), "too-long"),
        ("trace", TraceRequest(prompt=LONG, subject="Rome"), "too-long"),
    ],
)
def test_what_the_model_cannot_take_never_reaches_it(
    open_desk: Callable[[str], Desk], noun: str, request_: Any, name: str
) -> None:
    """What the API could not check without a worker, the worker checks when it takes the job up."""
    desk = open_desk(noun)
    job_id, _ = desk.jobs.create(request_)
    desk.job(1)(job_id)
    assert desk.ran == []
    assert problem_of(desk.jobs, job_id).type.endswith(name)


def test_an_edit_that_was_cancelled_at_its_commit_is_cancelled(open_desk: Callable[[str], Desk]) -> None:
    desk = open_desk("edit")
    edit_id = desk.new()
    desk.job(1, EditEndedError("cancelled"))(edit_id)
    assert desk.edits.get(edit_id).status is EditStatus.CANCELLED


def test_an_edit_that_was_committed_is_left_as_its_commit_left_it(
    open_desk: Callable[[str], Desk], stand: Stand
) -> None:
    desk = open_desk("edit")
    edit_id = desk.new()

    def start(started: str, _: AnyEditRequest) -> Any:
        yield Step("value", 1, 1)
        return stand.commit(random_delta(stand.loaded), started)

    job = EditJob(desk.edits, desk.thread, CARD, len, start, desk.draining, desk.stop, desk.fence)
    job(edit_id)
    edit = desk.edits.get(edit_id)
    assert (edit.status, edit.revision, edit.attempts) == (EditStatus.APPLIED, 1, 1)
    job(edit_id)
    assert desk.edits.get(edit_id) == edit
    assert stand.ledger.head() == 1


@pytest.mark.parametrize(("name", "number"), [("head", 2), ("base", 0), (1, 1)])
def test_an_evaluation_is_completed_with_its_scores(
    open_desk: Callable[[str], Desk], stand: Stand, name: str | int, number: int
) -> None:
    for seed in range(2):
        stand.commit(random_delta(stand.loaded, seed=seed))
    desk, before = open_desk("evaluation"), stand.state()
    request = SCORE.model_copy(update={"revision": name})
    evaluation_id, _ = desk.evaluations.create(request)
    evaluation_job(desk, stand)(evaluation_id)
    found = desk.evaluations.get(evaluation_id)
    assert (found.status, found.revision, found.fact_count) == (JobStatus.COMPLETED, number, 1)
    assert (found.progress, found.position, desk.evaluations.pending()) == (None, None, [])
    assert found.result is not None
    expected = finish(Evaluator(stand.history, stand.ledger, stand.edits).run(request, number))
    assert found.result.model_copy(update={"timings": {}}) == expected.model_copy(update={"timings": {}})
    assert stand.state() == before


def test_the_revision_is_settled_at_the_first_attempt(open_desk: Callable[[str], Desk], stand: Stand) -> None:
    """A worker dies, and the head moves before the next one takes the evaluation up."""
    stand.commit(random_delta(stand.loaded))
    desk = open_desk("evaluation")
    evaluation_id, _ = desk.evaluations.create(SCORE)
    job = evaluation_job(desk, stand)

    def dies(*_: Any) -> Any:
        yield Step("measure")
        raise CorruptStateError("a blob")

    ending = (desk.draining, desk.stop, desk.fence)
    with pytest.raises(CorruptStateError):
        EvaluationJob(desk.evaluations, desk.thread, CARD, len, job.resolve, dies, *ending)(evaluation_id)
    begun = desk.evaluations.get(evaluation_id)
    assert (begun.status, begun.revision, begun.attempts) == (JobStatus.RUNNING, 1, 1)
    stand.commit(random_delta(stand.loaded, seed=1))
    evaluation_job(open_desk("evaluation"), stand)(evaluation_id)
    found = desk.evaluations.get(evaluation_id)
    assert (found.status, found.revision, found.attempts) == (JobStatus.COMPLETED, 1, 2)


@pytest.mark.parametrize(("name", "number"), [("head", 1), ("base", 0)])
def test_a_trace_is_completed_with_its_effects(
    open_desk: Callable[[str], Desk], stand: Stand, name: str, number: int
) -> None:
    stand.commit(random_delta(stand.loaded))
    desk, before = open_desk("trace"), stand.state()
    request = TRACE.model_copy(update={"revision": name, "noise_subjects": ("Rome", "Paris")})
    trace_id, _ = desk.traces.create(request)
    trace_job(desk, stand)(trace_id)
    found = desk.traces.get(trace_id)
    assert (found.status, found.revision, found.request) == (JobStatus.COMPLETED, number, request)
    assert found.result is not None
    expected = finish(Tracer(stand.history, stand.ledger).run(request, number))
    assert found.result.model_copy(update={"timings": {}}) == expected.model_copy(update={"timings": {}})
    assert len(found.result.effects) == 3
    glance = desk.traces.glance(trace_id)
    assert glance.result is not None
    assert (glance.result.effects, glance.request.noise_subjects) == ({}, ())
    assert glance.result.high == expected.high
    assert stand.state() == before


def test_a_trace_too_long_for_a_trace_never_reaches_the_model(open_desk: Callable[[str], Desk]) -> None:
    desk = open_desk("trace")
    trace_id, _ = desk.traces.create(TRACE.model_copy(update={"target": "x" * MOST_TOKENS}))
    wide = CARD.model_copy(update={"context_length": 10 * MOST_TOKENS})
    ending = (desk.draining, desk.stop, desk.fence)
    TraceJob(desk.traces, desk.thread, wide, len, lambda _: 0, desk.start(1), *ending)(trace_id)
    assert f"a trace takes {MOST_TOKENS}" in problem_of(desk.traces, trace_id).detail
    assert desk.ran == []


def test_a_revision_that_is_not_there_when_it_begins(open_desk: Callable[[str], Desk], stand: Stand) -> None:
    desk = open_desk("evaluation")
    evaluation_id, _ = desk.evaluations.create(SCORE.model_copy(update={"revision": 7}))
    evaluation_job(desk, stand)(evaluation_id)
    wanted = not_found("revision r7", "Revisions r0 to r0 exist; GET /revisions lists them.").problem
    assert problem_of(desk.evaluations, evaluation_id) == wanted


def test_the_first_in_line_is_run_whichever_the_bell_was_rung_for(open_desk: Callable[[str], Desk]) -> None:
    edits, evaluations, traces = map(open_desk, ("edit", "evaluation", "trace"))
    ran: list[str] = []
    line = Line(tuple(desk.job(1, RuntimeError("done")) for desk in (edits, evaluations, traces)))
    waiting = [desk.new() for desk in (evaluations, edits, edits, traces, edits)]
    edits.jobs.cancel(waiting[2])
    for bell in reversed(waiting):
        line(bell)
        left = {job_id for desk in (edits, evaluations, traces) for job_id in desk.jobs.pending()}
        ran += [job_id for job_id in waiting if job_id not in {*left, *ran, waiting[2]}]
        assert len(left) == max(0, 4 - len(ran))
    assert ran == [waiting[at] for at in (0, 1, 3, 4)]
    assert edits.ran == [waiting[1], waiting[4]]
