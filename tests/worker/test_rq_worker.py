"""The RQ worker runs its own jobs and nothing else, and sees that no edit is forgotten."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from rq.callbacks import Callback
from rq.command import send_command, send_stop_job_command
from rq.serializers import JSONSerializer

from service.keys import Keys
from service.queue import RESULT_SECONDS, RUN_EDIT, open_queue, reset, ring, waiting
from worker.rq_worker import WORKER_SECONDS, EditWorker

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
    ran: list[str] = []

    def job(edit_id: str) -> None:
        ran.append(edit_id)
        if edit_id == "edit-1":
            send_stop_job_command(raw, edit_id, serializer=JSONSerializer)
            assert stop_job.wait(60), "the command did not arrive"

    for edit_id in ("edit-1", "edit-2"):
        ring(open_queue(raw, KEYS), edit_id)
    functions = {RUN_EDIT: job}
    EditWorker(open_queue(raw, KEYS), raw, "w", functions, lambda: None, draining, stop_job).work(burst=True)
    assert ran == ["edit-1", "edit-2"]
    assert not draining.is_set()


def test_a_stop_command_for_another_job_is_ignored(raw: Redis) -> None:
    draining, stop_job = threading.Event(), threading.Event()

    def job(_: str) -> None:
        send_command(raw, "w", "stop-job", job_id="edit-9")
        assert not stop_job.wait(0.3)

    ring(open_queue(raw, KEYS), "edit-1")
    EditWorker(open_queue(raw, KEYS), raw, "w", {RUN_EDIT: job}, lambda: None, draining, stop_job).work(burst=True)
    assert not draining.is_set()


@pytest.mark.parametrize("outcome", ["success", "failure"])
def test_a_jobs_callbacks_are_never_imported(raw: Redis, outcome: str, tmp_path: Path) -> None:
    """RQ would import and call what a job names for its end, whatever the job's own function is."""
    trace = tmp_path / "trace"
    (tmp_path / f"evil_{outcome}.py").write_text(
        f"import pathlib\npathlib.Path({str(trace)!r}).touch()\ndef run(*_): pass\n"
    )
    ran: list[str] = []

    def job(edit_id: str) -> None:
        ran.append(edit_id)
        if outcome == "failure":
            raise RuntimeError("out of luck")

    queue = open_queue(raw, KEYS)
    evil = Callback(f"evil_{outcome}.run")
    queue.enqueue_call(RUN_EDIT, args=("edit-1",), on_success=evil, on_failure=evil, on_stopped=evil)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        _worker(raw, job).work(burst=True)
    assert ran == ["edit-1"]
    assert not trace.exists()


def test_a_running_jobs_signs_of_life_are_renewed(raw: Redis) -> None:
    """From the heartbeat's thread, however long the job takes."""
    client: Any = raw
    left: list[int] = []

    def job(edit_id: str) -> None:
        worker_key, registry = worker.key, open_queue(raw, KEYS).started_job_registry
        client.expire(worker_key, 2)
        thread = threading.Thread(target=worker.keep_alive)
        thread.start()
        thread.join(60)
        left.append(client.ttl(worker_key))
        (score,) = [score for member, score in client.zrange(registry.key, 0, -1, withscores=True)]
        assert score > time.time() + 20
        assert registry.get_job_ids(cleanup=False) == [edit_id]

    worker = _worker(raw, job)
    ring(open_queue(raw, KEYS), "edit-1")
    worker.work(burst=True)
    assert left
    assert left[0] >= WORKER_SECONDS - 1


def test_what_rq_keeps_of_ended_jobs_goes_away(raw: Redis) -> None:
    def job(edit_id: str) -> None:
        if edit_id == "bad":
            raise RuntimeError("out of luck")

    queue = open_queue(raw, KEYS)
    for edit_id in ("good", "bad"):
        ring(queue, edit_id)
    _worker(raw, job).work(burst=True)
    assert queue.finished_job_registry.get_job_ids(cleanup=False) == ["good"]
    assert queue.failed_job_registry.get_job_ids(cleanup=False) == ["bad"]
    assert queue.started_job_registry.get_job_ids(cleanup=False) == []
    client: Any = raw
    assert 0 < client.ttl("rq:job:good") <= RESULT_SECONDS
    for registry in (queue.finished_job_registry, queue.failed_job_registry):
        (score,) = [score for _, score in client.zrange(registry.key, 0, -1, withscores=True)]
        assert time.time() < score <= time.time() + RESULT_SECONDS


def test_a_signal_lets_the_running_job_hand_back_and_ends_the_loop(raw: Redis) -> None:
    """SIGTERM, and a second one while the first is being obeyed: no job is cut off, and no further one begun."""
    draining = threading.Event()
    ran: list[str] = []

    def job(edit_id: str) -> None:
        ran.append(edit_id)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            assert draining.wait(60)
        ran.append("came to its end")

    for edit_id in ("edit-1", "edit-2"):
        ring(open_queue(raw, KEYS), edit_id)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        stop_job = threading.Event()
        functions = {RUN_EDIT: job}
        EditWorker(open_queue(raw, KEYS), raw, "w", functions, lambda: None, draining, stop_job).work()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert ran == ["edit-1", "came to its end"]
    assert waiting(open_queue(raw, KEYS)) == {"edit-2"}
    assert not stop_job.is_set()


def test_an_alarm_never_tears_a_job(raw: Redis) -> None:
    ran: list[float] = []

    def job(_: str) -> None:
        begin = time.monotonic()
        threading.Event().wait(1.5)
        ran.append(time.monotonic() - begin)

    open_queue(raw, KEYS).enqueue_call(RUN_EDIT, args=("edit-1",), timeout=1)
    _worker(raw, job).work(burst=True)
    assert ran
    assert ran[0] >= 1.5


def test_ringing_twice_does_no_harm(raw: Redis) -> None:
    ran: list[str] = []
    for _ in range(2):
        ring(open_queue(raw, KEYS), "edit-1")
    _worker(raw, ran.append).work(burst=True)
    assert set(ran) == {"edit-1"}
    assert waiting(open_queue(raw, KEYS)) == set()


def test_a_sign_of_life_before_the_work_begins_does_not_take_the_name(raw: Redis) -> None:
    """RQ refuses a worker whose name has shown a sign of life; the heartbeat may beat before it registers."""
    ran: list[str] = []
    worker = _worker(raw, ran.append)
    worker.keep_alive()
    assert not raw.exists(worker.key)
    ring(open_queue(raw, KEYS), "edit-1")
    worker.work(burst=True)
    assert ran == ["edit-1"]
