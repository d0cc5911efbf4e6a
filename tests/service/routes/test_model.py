"""The model and its methods over HTTP."""

import httpx
import pytest

from service.contracts.revisions import RevisionKind
from tests.service.stand_in import TENSOR, StandIn, queue_edit


def test_the_pristine_model(http: httpx.Client, worker: StandIn) -> None:
    body = http.get("/model").json()
    assert (body["revision"], body["checksum"], body["card"]["name"]) == (0, "c0", "test-model")
    assert (body["edited_tensors"], body["edited_layers"]) == ([], [])
    assert body["worker"]["state"] == "ready"
    worker.heartbeat(worker="follower", leader=False)
    assert [one["worker"] for one in http.get("/model").json()["workers"]] == ["stand-in", "follower"]
    worker.die()
    assert http.get("/model").json()["worker"]["worker"] == "follower"
    worker.die("follower")
    body = http.get("/model").json()
    assert (body["worker"], body["workers"]) == (None, [])


def test_the_edited_model(http: httpx.Client, worker: StandIn) -> None:
    worker.apply(queue_edit(worker.edits).id)
    body = http.get("/model").json()
    assert (body["revision"], body["checksum"]) == (1, "c1")
    assert (body["edited_tensors"], body["edited_layers"]) == ([TENSOR], [6])
    worker.append(RevisionKind.ROLLBACK, to=0)
    assert http.get("/model").json()["edited_layers"] == []


@pytest.mark.usefixtures("worker")
def test_the_methods(http: httpx.Client) -> None:
    body = http.get("/methods").json()
    assert (body["model"], body["revision"]) == ("test-model", 0)
    assert [method["name"] for method in body["methods"]] == ["rome"]
    assert body["methods"][0]["defaults"] == {"v_lr": 0.5}


@pytest.mark.parametrize("path", ["/model", "/methods"])
def test_before_any_worker(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert "none has published its model yet" in answer.json()["detail"]
