"""The RQ worker runs its own jobs and nothing else, and sees that no edit is forgotten."""

import threading
from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from service.keys import Keys
from service.queue import RUN_EDIT, open_queue, reset, ring, waiting
from worker.rq_worker import EditWorker

KEYS = Keys("test-model")


@pytest.fixture
def raw(valkey_url: str) -> Iterator[Redis]:
    with Redis.from_url(valkey_url) as client:
        client.flushall()
        yield client


def _worker(raw: Redis, job: Callable[[str], None], reconcile: Callable[[], None] = lambda: None) -> EditWorker:
    return EditWorker(
        open_queue(raw, KEYS), raw, "worker-1", {RUN_EDIT: job}, reconcile, threading.Event(), threading.Event()
    )


def test_runs_what_is_rung(raw: Redis) -> None:
    ran: list[str] = []
    ring(open_queue(raw, KEYS), "edit-1")
    ring(open_queue(raw, KEYS), "edit-2")
    _worker(raw, ran.append).work(burst=True)
    assert ran == ["edit-1", "edit-2"]


def test_a_job_of_another_name_never_runs(raw: Redis) -> None:
    ran: list[str] = []
    queue = open_queue(raw, KEYS)
    for name in ("os.getpid", "worker.jobs.EditJob", "builtins.print"):
        queue.enqueue_call(name, args=())
    ring(queue, "edit-1")
    _worker(raw, ran.append).work(burst=True)
    assert ran == ["edit-1"]
    assert queue.failed_job_registry.get_job_count(cleanup=False) == 3


def test_a_failing_job_does_not_end_the_worker(raw: Redis) -> None:
    ran: list[str] = []

    def job(edit_id: str) -> None:
        ran.append(edit_id)
        if edit_id == "edit-1":
            raise RuntimeError("out of luck")

    for edit_id in ("edit-1", "edit-2"):
        ring(open_queue(raw, KEYS), edit_id)
    _worker(raw, job).work(burst=True)
    assert ran == ["edit-1", "edit-2"]


def test_what_rq_has_lost_is_rung_again(raw: Redis) -> None:
    ran: list[str] = []
    queue = open_queue(raw, KEYS)

    def reconcile() -> None:
        if "lost" not in ran and "lost" not in waiting(queue):
            ring(queue, "lost")

    _worker(raw, ran.append, reconcile).work(burst=True)
    assert ran == ["lost"]


def test_reset_forgets_what_a_dead_worker_had_begun(raw: Redis) -> None:
    queue = open_queue(raw, KEYS)
    ring(queue, "edit-1")
    raw.lmove(queue.key, queue.intermediate_queue_key)
    reset(queue)
    assert waiting(queue) == set()
    assert not raw.exists(queue.intermediate_queue_key)


def test_the_stop_command_ends_the_running_edit_alone(raw: Redis) -> None:
    draining, stop_job = threading.Event(), threading.Event()
    worker = EditWorker(open_queue(raw, KEYS), raw, "worker-1", {}, lambda: None, draining, stop_job)
    worker.kill_horse()
    assert stop_job.is_set()
    assert not draining.is_set()
