"""A job of any kind is brought to an end, whatever became of the workers before."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from service.contracts.problem import Problem
from service.errors import ProblemError
from service.keys import Keys
from tests.worker.job_desk import Desk
from worker.errors import CorruptStateError, EditError, LeaseLostError
from worker.job import MOST_ATTEMPTS


@pytest.fixture(params=["edit", "evaluation", "trace", "benchmark"])
def desk(redis: Redis, keys: Keys, request: pytest.FixtureRequest) -> Iterator[Desk]:
    """A desk of each kind."""
    made = Desk(redis, keys, request.param)
    yield made
    made.close()


def test_an_unexpected_error_fails_the_job_with_a_reason(desk: Desk) -> None:
    job_id = desk.new()
    desk.job(1, RuntimeError("out of luck"))(job_id)
    job = desk.jobs.get(job_id)
    assert job.status == "failed"
    assert job.problem is not None
    assert "out of luck" in job.problem.detail
    assert desk.jobs.pending() == []


def test_a_document_that_no_api_has_written_is_not_run(desk: Desk, redis: Redis, keys: Keys) -> None:
    """It ends, too, or it would stand first in line for ever."""
    job_id = desk.new()
    forged: Any = redis
    fields = [name for name in forged.hkeys(keys.job(desk.noun, job_id)) if name.startswith("request")]
    assert fields
    forged.hset(keys.job(desk.noun, job_id), mapping=dict.fromkeys(fields, '{"method": "os.system", "__class__": 1}'))
    desk.job(1)(job_id)
    assert desk.ran == []
    assert forged.hget(keys.job(desk.noun, job_id), "status") == "failed"
    assert desk.jobs.pending() == []


def test_after_too_many_dead_workers_it_is_not_tried_again(desk: Desk) -> None:
    job_id = desk.new()
    for _ in range(MOST_ATTEMPTS):
        assert desk.jobs.take_up(job_id)
    desk.job(1)(job_id)
    job = desk.jobs.get(job_id)
    assert (job.status, desk.ran) == ("failed", [])
    assert job.problem is not None
    assert job.problem.type.endswith("worker-died")


def test_a_job_that_is_delivered_again_does_nothing(desk: Desk) -> None:
    job_id = desk.new()
    desk.jobs.cancel(job_id)
    desk.job(1)(job_id)
    assert desk.ran == []
    assert desk.jobs.get(job_id).status == "cancelled"


def test_cancel_ends_a_running_job(desk: Desk) -> None:
    job_id = desk.new()
    running = threading.Thread(target=desk.job(100_000), args=(job_id,))
    running.start()
    assert desk.begun.wait(60)
    desk.jobs.cancel(job_id)
    running.join(timeout=60)
    assert desk.jobs.get(job_id).status == "cancelled"


def test_draining_hands_a_running_job_back_without_counting_it(desk: Desk) -> None:
    job_id = desk.new()
    running = threading.Thread(target=desk.job(100_000), args=(job_id,))
    running.start()
    assert desk.begun.wait(60)
    desk.draining.set()
    running.join(timeout=60)
    job = desk.jobs.get(job_id)
    assert (job.status, job.attempts) == ("queued", 0)
    assert desk.jobs.pending() == [job_id]
    desk.job(1)(job_id)
    assert desk.ran == desk.names(job_id), "a draining worker takes nothing up"


def _problem(desk: Desk, job_id: str) -> Problem:
    job = desk.jobs.get(job_id)
    assert job.status == "failed"
    assert isinstance(job.problem, Problem)
    return job.problem


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (EditError("too-long", "prompt", "needs 300 tokens"), 422, "too-long"),
        (ProblemError(409, "head-moved", "The head is r1."), 409, "head-moved"),
    ],
)
def test_what_is_wrong_with_a_job_is_its_problem(desk: Desk, error: Exception, status: int, name: str) -> None:
    job_id = desk.new()
    desk.job(1, error)(job_id)
    problem = _problem(desk, job_id)
    assert (problem.status, problem.type.split(":")[-1]) == (status, name)
    assert str(error) in problem.detail


@pytest.mark.parametrize(
    "error", [LeaseLostError("another"), CorruptStateError("a blob"), RedisConnectionError("away")]
)
def test_what_ends_the_worker_leaves_the_job_to_the_next_one(desk: Desk, error: Exception) -> None:
    job_id = desk.new()
    with pytest.raises(type(error)):
        desk.job(1, error)(job_id)
    job = desk.jobs.get(job_id)
    assert (job.status, job.attempts) == ("running", 1)
    assert desk.jobs.pending() == [job_id]


def test_the_stop_command_cancels_the_job_and_nothing_else(desk: Desk) -> None:
    job_id = desk.new()
    running = threading.Thread(target=desk.job(100_000), args=(job_id,))
    running.start()
    assert desk.begun.wait(60)
    desk.stop.set()
    running.join(timeout=60)
    assert desk.jobs.get(job_id).status == "cancelled"
    desk.begun.clear()
    next_id = desk.new()
    running = threading.Thread(target=desk.job(100_000), args=(next_id,))
    running.start()
    assert desk.begun.wait(60), "the stop of the job before does not concern this one"
    desk.jobs.cancel(next_id)
    running.join(timeout=60)
    assert desk.ran == desk.names(job_id, next_id)


def test_progress_is_written_while_it_runs(desk: Desk) -> None:
    job_id = desk.new()
    running = threading.Thread(target=desk.job(100_000), args=(job_id,))
    running.start()
    seen: set[int] = set()
    deadline = time.monotonic() + 10
    while len(seen) < 3:
        assert time.monotonic() < deadline
        if (progress := desk.jobs.get(job_id).progress) is not None:
            assert (progress.phase, progress.steps) == ("value", 100_000)
            seen.add(progress.step)
    desk.jobs.cancel(job_id)
    running.join(timeout=60)


def test_a_cancellation_while_draining_is_honoured(desk: Desk) -> None:
    job_id = desk.new()
    running = threading.Thread(target=desk.job(100_000), args=(job_id,))
    running.start()
    assert desk.begun.wait(60)
    desk.jobs.cancel(job_id)
    desk.draining.set()
    running.join(timeout=60)
    assert desk.jobs.get(job_id).status == "cancelled"


def test_the_end_of_the_model_thread_is_not_waited_for(desk: Desk) -> None:
    """A worker error on the model thread, and then a job that RQ had already taken."""
    job_id = desk.new()
    with pytest.raises(CorruptStateError):
        desk.job(1, CorruptStateError("a blob"))(job_id)
    late = desk.new()
    with pytest.raises(CorruptStateError):
        desk.job(1)(late)
    assert desk.jobs.get(late).status == "running"


@pytest.mark.parametrize("how", ["drained", "cancelled", "failed", "not begun"])
def test_a_job_that_another_worker_has_now_is_not_touched(desk: Desk, how: str) -> None:
    """A worker that was frozen wakes: its lease is lost, and the job runs elsewhere."""

    def lost() -> None:
        raise LeaseLostError

    job_id = desk.new()
    if how == "not begun":
        desk.fence = lost
        with pytest.raises(LeaseLostError):
            desk.job(1)(job_id)
        assert desk.jobs.get(job_id).status == "queued"
        return
    raised: list[type] = []

    def run() -> None:
        try:
            desk.job(5 if how == "failed" else 100_000, RuntimeError("out of luck"))(job_id)
        except LeaseLostError as error:
            raised.append(type(error))

    running = threading.Thread(target=run)
    running.start()
    assert desk.begun.wait(60)
    desk.fence = lost
    {"drained": desk.draining, "cancelled": desk.stop, "failed": threading.Event()}[how].set()
    running.join(timeout=60)
    assert raised == [LeaseLostError]
    job = desk.jobs.get(job_id)
    assert (job.status, job.attempts) == ("running", 1)
