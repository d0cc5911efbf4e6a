"""An edit's job brings it to an end, whatever became of the workers before."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from service.contracts.edits import AnyEditRequest, EditRequest, EditStatus
from service.contracts.model import MethodCard, ModelCard
from service.contracts.problem import Problem
from service.edits import Edits
from service.errors import ProblemError
from service.keys import Keys
from service.ledger import EditEndedError
from tests.families import tiny_model
from tests.worker.engine.kit import Stand, random_delta
from worker.editing.progress import Step
from worker.engine.model_thread import ModelThread
from worker.errors import CorruptStateError, EditError, LeaseLostError
from worker.job import MOST_ATTEMPTS
from worker.jobs import EditJob

REQUEST = EditRequest(prompt="Rome is in", subject="Rome", target_new="Spain", hparams={})
METHOD = MethodCard(name="rome", title="", source="", hparams_schema={}, defaults={})
CARD = ModelCard(
    name="test-model",
    family="llama",
    dtype="float32",
    device="cpu",
    parameters=1,
    layers=1,
    hidden_size=1,
    context_length=100,
    editable="{}",
    checksum="",
    tokenizer="",
    methods=(METHOD,),
    template_tokens=0,
)


class Desk:
    """A job on a real Redis and a real model thread, whose edits do what the test says."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.edits = Edits(redis, keys)
        self.draining, self.stop = threading.Event(), threading.Event()
        self.thread = ModelThread(lambda: None, lambda _: None)
        self.thread.start()
        self.ran: list[str] = []
        self.fence: Callable[[], None] = lambda: None
        self.begun = threading.Event()

    def job(self, steps: int, error: Exception | None = None) -> EditJob:
        def start(edit_id: str, _: AnyEditRequest) -> Any:
            self.ran.append(edit_id)
            for step in range(steps):
                self.begun.set()
                yield Step("value", step, steps)
                threading.Event().wait(0.005)
            if error is not None:
                raise error
            raise AssertionError("ran to its end")

        return EditJob(self.edits, self.thread, CARD, len, start, self.draining, self.stop, self._fence)

    def _fence(self) -> None:
        self.fence()

    def new(self) -> str:
        return self.edits.create(REQUEST)[0]


@pytest.fixture
def desk(redis: Redis, keys: Keys) -> Iterator[Desk]:
    made = Desk(redis, keys)
    yield made
    made.thread.end()
    made.thread.join(timeout=60)


def test_an_unexpected_error_fails_the_edit_with_a_reason(desk: Desk) -> None:
    edit_id = desk.new()
    desk.job(1, RuntimeError("out of luck"))(edit_id)
    edit = desk.edits.get(edit_id)
    assert edit.status is EditStatus.FAILED
    assert edit.problem is not None
    assert "out of luck" in edit.problem.detail
    assert desk.edits.pending() == []


def test_after_too_many_dead_workers_it_is_not_tried_again(desk: Desk) -> None:
    edit_id = desk.new()
    for _ in range(MOST_ATTEMPTS):
        assert desk.edits.take_up(edit_id)
    desk.job(1)(edit_id)
    edit = desk.edits.get(edit_id)
    assert (edit.status, desk.ran) == (EditStatus.FAILED, [])
    assert edit.problem is not None
    assert edit.problem.type.endswith("worker-died")


def test_a_job_that_is_delivered_again_does_nothing(desk: Desk) -> None:
    edit_id = desk.new()
    desk.edits.cancel(edit_id)
    desk.job(1)(edit_id)
    assert desk.ran == []
    assert desk.edits.get(edit_id).status is EditStatus.CANCELLED


def test_cancel_ends_a_running_edit(desk: Desk) -> None:
    edit_id = desk.new()
    running = threading.Thread(target=desk.job(100_000), args=(edit_id,))
    running.start()
    assert desk.begun.wait(60)
    desk.edits.cancel(edit_id)
    running.join(timeout=60)
    assert desk.edits.get(edit_id).status is EditStatus.CANCELLED


def test_draining_hands_a_running_edit_back_without_counting_it(desk: Desk) -> None:
    edit_id = desk.new()
    running = threading.Thread(target=desk.job(100_000), args=(edit_id,))
    running.start()
    assert desk.begun.wait(60)
    desk.draining.set()
    running.join(timeout=60)
    edit = desk.edits.get(edit_id)
    assert (edit.status, edit.attempts) == (EditStatus.QUEUED, 0)
    assert desk.edits.pending() == [edit_id]
    desk.job(1)(edit_id)
    assert desk.ran == [edit_id], "a draining worker takes nothing up"


def _problem(desk: Desk, edit_id: str) -> Problem:
    edit = desk.edits.get(edit_id)
    assert edit.status is EditStatus.FAILED
    assert edit.problem is not None
    return edit.problem


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (EditError("too-long", "prompt", "needs 300 tokens"), 422, "too-long"),
        (ProblemError(409, "head-moved", "The head is r1."), 409, "head-moved"),
    ],
)
def test_what_is_wrong_with_an_edit_is_its_problem(desk: Desk, error: Exception, status: int, name: str) -> None:
    edit_id = desk.new()
    desk.job(1, error)(edit_id)
    problem = _problem(desk, edit_id)
    assert (problem.status, problem.type.split(":")[-1]) == (status, name)
    assert str(error) in problem.detail


def test_an_edit_that_the_model_cannot_take_never_reaches_it(desk: Desk) -> None:
    """What the API could not check without a worker, the worker checks when it takes the edit up."""
    request = REQUEST.model_copy(update={"method": "romme"})
    edit_id, _ = desk.edits.create(request)
    desk.job(1)(edit_id)
    assert desk.ran == []
    assert _problem(desk, edit_id).type.endswith("unknown-method")
    edit_id, _ = desk.edits.create(REQUEST.model_copy(update={"prompt": "Rome " * 50 + "is"}))
    desk.job(1)(edit_id)
    assert desk.ran == []
    assert _problem(desk, edit_id).type.endswith("too-long")


@pytest.mark.parametrize(
    "error", [LeaseLostError("another"), CorruptStateError("a blob"), RedisConnectionError("away")]
)
def test_what_ends_the_worker_leaves_the_edit_to_the_next_one(desk: Desk, error: Exception) -> None:
    edit_id = desk.new()
    with pytest.raises(type(error)):
        desk.job(1, error)(edit_id)
    edit = desk.edits.get(edit_id)
    assert (edit.status, edit.attempts) == (EditStatus.RUNNING, 1)
    assert desk.edits.pending() == [edit_id]


def test_an_edit_that_was_cancelled_at_its_commit_is_cancelled(desk: Desk) -> None:
    edit_id = desk.new()
    desk.job(1, EditEndedError("cancelled"))(edit_id)
    assert desk.edits.get(edit_id).status is EditStatus.CANCELLED


def test_the_stop_command_cancels_the_edit_and_nothing_else(desk: Desk) -> None:
    edit_id = desk.new()
    running = threading.Thread(target=desk.job(100_000), args=(edit_id,))
    running.start()
    assert desk.begun.wait(60)
    desk.stop.set()
    running.join(timeout=60)
    assert desk.edits.get(edit_id).status is EditStatus.CANCELLED
    desk.begun.clear()
    next_id = desk.new()
    running = threading.Thread(target=desk.job(100_000), args=(next_id,))
    running.start()
    assert desk.begun.wait(60), "the stop of the edit before does not concern this one"
    desk.edits.cancel(next_id)
    running.join(timeout=60)
    assert desk.ran == [edit_id, next_id]


def test_progress_is_written_while_it_runs(desk: Desk) -> None:
    edit_id = desk.new()
    running = threading.Thread(target=desk.job(100_000), args=(edit_id,))
    running.start()
    seen: set[int] = set()
    deadline = time.monotonic() + 10
    while len(seen) < 3:
        assert time.monotonic() < deadline
        if (progress := desk.edits.get(edit_id).progress) is not None:
            assert (progress.phase, progress.steps) == ("value", 100_000)
            seen.add(progress.step)
    desk.edits.cancel(edit_id)
    running.join(timeout=60)


def test_a_cancellation_while_draining_is_honoured(desk: Desk) -> None:
    edit_id = desk.new()
    running = threading.Thread(target=desk.job(100_000), args=(edit_id,))
    running.start()
    assert desk.begun.wait(60)
    desk.edits.cancel(edit_id)
    desk.draining.set()
    running.join(timeout=60)
    assert desk.edits.get(edit_id).status is EditStatus.CANCELLED


def test_an_edit_that_was_committed_is_left_as_its_commit_left_it(
    redis: Redis, keys: Keys, desk: Desk, tmp_path: Path
) -> None:
    stand = Stand(redis, keys, tiny_model("llama"), tmp_path)
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


def test_the_end_of_the_model_thread_is_not_waited_for(desk: Desk) -> None:
    """A worker error on the model thread, and then a job that RQ had already taken."""
    edit_id = desk.new()
    with pytest.raises(CorruptStateError):
        desk.job(1, CorruptStateError("a blob"))(edit_id)
    late = desk.new()
    with pytest.raises(CorruptStateError):
        desk.job(1)(late)
    assert desk.edits.get(late).status is EditStatus.RUNNING


@pytest.mark.parametrize("how", ["drained", "cancelled", "failed", "not begun"])
def test_an_edit_that_another_worker_has_now_is_not_touched(desk: Desk, how: str) -> None:
    """A worker that was frozen wakes: its lease is lost, and the edit runs elsewhere."""

    def lost() -> None:
        raise LeaseLostError

    edit_id = desk.new()
    if how == "not begun":
        desk.fence = lost
        with pytest.raises(LeaseLostError):
            desk.job(1)(edit_id)
        assert desk.edits.get(edit_id).status is EditStatus.QUEUED
        return
    raised: list[type] = []

    def run() -> None:
        try:
            desk.job(5 if how == "failed" else 100_000, RuntimeError("out of luck"))(edit_id)
        except LeaseLostError as error:
            raised.append(type(error))

    running = threading.Thread(target=run)
    running.start()
    assert desk.begun.wait(60)
    desk.fence = lost
    {"drained": desk.draining, "cancelled": desk.stop, "failed": threading.Event()}[how].set()
    running.join(timeout=60)
    assert raised == [LeaseLostError]
    edit = desk.edits.get(edit_id)
    assert (edit.status, edit.attempts) == (EditStatus.RUNNING, 1)
