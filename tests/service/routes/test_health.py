"""Health and readiness, with and without what they depend on."""

from collections.abc import Callable
from importlib.metadata import version
from threading import Timer

import httpx
import pytest

from service.contracts.model import WorkerState
from service.contracts.revisions import RevisionKind
from service.keys import Keys
from service.settings import Settings
from tests.service.conftest import serve
from tests.service.stand_in import StandIn


def test_health_needs_nothing(http: httpx.Client) -> None:
    answer = http.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "model": "test-model", "version": version("palimpsest")}
    assert "X-Model-Revision" not in answer.headers


@pytest.mark.usefixtures("worker")
def test_ready_names_the_head(http: httpx.Client) -> None:
    answer = http.get("/ready")
    assert answer.status_code == 200
    assert answer.json()["revision"] == 0
    assert answer.json()["worker"]["worker"] == "stand-in"


def test_ready_without_a_worker(http: httpx.Client) -> None:
    answer = http.get("/ready")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert "none is running" in answer.json()["detail"]


def test_ready_while_the_worker_starts(http: httpx.Client, worker: StandIn) -> None:
    worker.heartbeat(WorkerState.STARTING)
    answer = http.get("/ready")
    assert answer.status_code == 503
    assert "it is starting (stands in)" in answer.json()["detail"]


def test_ready_while_the_worker_is_behind(http: httpx.Client, worker: StandIn) -> None:
    worker.append(RevisionKind.ROLLBACK, to=0)
    worker.heartbeat(revision=0)
    answer = http.get("/ready")
    assert answer.status_code == 503
    assert "it serves r0, and the head is r1" in answer.json()["detail"]


def test_ready_waits_a_moment_for_the_worker_that_moves_the_head(http: httpx.Client, worker: StandIn) -> None:
    worker.append(RevisionKind.ROLLBACK, to=0)
    worker.heartbeat(revision=0)
    telling = Timer(0.2, worker.heartbeat)
    telling.start()
    answer = http.get("/ready")
    telling.join()
    assert (answer.status_code, answer.json()["revision"]) == (200, 1)


def test_ready_tells_how_far_each_worker_is_behind(http: httpx.Client, worker: StandIn) -> None:
    worker.append(RevisionKind.ROLLBACK, to=0)
    worker.append(RevisionKind.ROLLBACK, to=0)
    worker.heartbeat(revision=0, worker="follower", leader=False)
    worker.heartbeat(WorkerState.STARTING, worker="starting", leader=False)
    body = http.get("/ready").json()
    assert (body["revision"], body["worker"]["worker"]) == (2, "stand-in")
    assert [(one["worker"], one["leader"], one["lag"]) for one in body["workers"]] == [
        ("stand-in", True, 0),
        ("follower", False, 2),
        ("starting", False, None),
    ]


def test_one_worker_that_serves_the_head_is_enough(http: httpx.Client, worker: StandIn) -> None:
    """The leader has gone, or has fallen behind; another one answers."""
    worker.append(RevisionKind.ROLLBACK, to=0)
    worker.heartbeat(WorkerState.BEHIND, revision=0)
    worker.heartbeat(worker="follower", leader=False)
    body = http.get("/ready").json()
    assert (body["worker"]["worker"], body["worker"]["leader"]) == ("follower", False)
    assert [one["lag"] for one in body["workers"]] == [1, 0]
    worker.die()
    assert [one["worker"] for one in http.get("/ready").json()["workers"]] == ["follower"]
    worker.heartbeat(WorkerState.BEHIND, revision=0)
    worker.heartbeat(revision=0, worker="follower", leader=False)
    answer = http.get("/ready")
    assert answer.status_code == 503
    assert "it serves r0 (behind: stands in); it serves r0, and the head is r1" in answer.json()["detail"]


def test_without_redis(keys: Keys, free_port: Callable[[], int]) -> None:
    for url in serve(Settings(model=keys.model, port=0, redis_url=f"redis://127.0.0.1:{free_port()}")):
        with httpx.Client(base_url=url) as http:
            assert http.get("/health").status_code == 200
            for path in ("/ready", "/edits", "/revisions", "/model", "/generate?prompt=a"):
                answer = http.get(path)
                assert answer.status_code == 503, path
                assert answer.json()["type"] == "urn:palimpsest:problem:redis-unavailable"
                assert answer.headers["Retry-After"] == "2"
                assert answer.headers["Content-Type"] == "application/problem+json"
