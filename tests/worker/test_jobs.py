"""An edit's job brings it to an end, whatever became of the workers before."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from service.contracts.edits import EditRequest, EditStatus
from service.contracts.model import MethodCard, ModelCard
from service.edits import Edits
from service.keys import Keys
from worker.editing.progress import Step
from worker.engine.model_thread import ModelThread
from worker.jobs import MOST_ATTEMPTS, EditJob

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
        self.draining = threading.Event()
        self.thread = ModelThread(lambda: None, lambda _: None)
        self.thread.start()
        self.ran: list[str] = []
        self.begun = threading.Event()

    def job(self, steps: int, error: Exception | None = None) -> EditJob:
        def start(edit_id: str, _: EditRequest) -> Any:
            self.ran.append(edit_id)
            for step in range(steps):
                self.begun.set()
                yield Step("value", step, steps)
                threading.Event().wait(0.005)
            if error is not None:
                raise error
            raise AssertionError("ran to its end")

        return EditJob(self.edits, self.thread, CARD, len, start, self.draining, threading.Event())

    def new(self) -> str:
        return self.edits.create(REQUEST)[0]


@pytest.fixture
def desk(redis: Redis, keys: Keys) -> Iterator[Desk]:
    made = Desk(redis, keys)
    yield made
    made.thread.end()
    made.thread.join(timeout=5)


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
    assert desk.begun.wait(5)
    desk.edits.cancel(edit_id)
    running.join(timeout=10)
    assert desk.edits.get(edit_id).status is EditStatus.CANCELLED


def test_draining_hands_a_running_edit_back_without_counting_it(desk: Desk) -> None:
    edit_id = desk.new()
    running = threading.Thread(target=desk.job(100_000), args=(edit_id,))
    running.start()
    assert desk.begun.wait(5)
    desk.draining.set()
    running.join(timeout=10)
    edit = desk.edits.get(edit_id)
    assert (edit.status, edit.attempts) == (EditStatus.QUEUED, 0)
    assert desk.edits.pending() == [edit_id]
    desk.job(1)(edit_id)
    assert desk.ran == [edit_id], "a draining worker takes nothing up"
