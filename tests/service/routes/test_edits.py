"""Edits over HTTP: asked for, listed, watched, cancelled."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from redis import Redis

from service.contracts.jobs import Progress
from service.contracts.model import WorkerState
from service.contracts.revisions import RevisionKind
from service.edits import Edits
from service.keys import Keys
from tests.service.stand_in import EIFFEL, StandIn, queue_edit
from tests.service.watching import events

Contents = Callable[[], dict[str, bytes | None]]


def post(http: httpx.Client, *, headers: dict[str, str] | None = None, **changes: Any) -> httpx.Response:
    return http.post("/edits", json={**EIFFEL, **changes}, headers=headers)


@pytest.mark.usefixtures("worker")
def test_post_queues_an_edit(http: httpx.Client, rung: Callable[[], list[str]]) -> None:
    answer = post(http)
    edit = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/edits/{edit['id']}"
    assert answer.headers["X-Model-Revision"] == "0"
    assert (edit["status"], edit["position"], edit["notice"]) == ("queued", 0, None)
    assert edit["request"]["target_new"] == "Rome"
    assert rung() == [edit["id"]]
    assert post(http, target_new="Berlin").json()["position"] == 1
    assert http.get(answer.headers["Location"]).json() == edit


def test_post_without_a_worker_waits_and_says_so(http: httpx.Client, rung: Callable[[], list[str]]) -> None:
    answer = post(http, method="not-yet-known")
    edit = answer.json()
    assert answer.status_code == 202
    assert edit["notice"] == "No worker for test-model is there; the edit waits until one is."
    assert rung() == [edit["id"]]
    assert http.get(f"/edits/{edit['id']}").json()["notice"] == edit["notice"]
    assert http.get("/edits").json()["edits"][0]["notice"] == edit["notice"]
    assert "X-Model-Revision" not in answer.headers


def test_post_while_the_worker_starts(http: httpx.Client, worker: StandIn) -> None:
    worker.heartbeat(WorkerState.STARTING)
    notice = post(http).json()["notice"]
    assert notice == "No worker for test-model is ready (starting: stands in); the edit waits until one is."


@pytest.mark.usefixtures("worker")
def test_the_same_idempotency_key_gives_the_same_edit(http: httpx.Client) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = post(http, headers=key)
    again = post(http, headers=key)
    assert again.status_code == 202
    assert again.headers["Location"] == first.headers["Location"]
    assert len(http.get("/edits").json()["edits"]) == 1
    other = post(http, headers=key, target_new="Berlin")
    assert other.status_code == 409
    assert other.json()["type"].endswith(":idempotency-key-reused")


def test_an_idempotency_key_outlives_its_base_revision(http: httpx.Client, worker: StandIn) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = post(http, headers=key, base_revision=0).json()
    worker.apply(first["id"])
    again = post(http, headers=key, base_revision=0)
    assert again.status_code == 202
    assert again.json()["status"] == "applied"


@pytest.mark.parametrize("key", ["", "two words", "x" * 201])
def test_a_bad_idempotency_key_is_refused(http: httpx.Client, key: str, contents: Contents) -> None:
    answer = post(http, headers={"Idempotency-Key": key})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"].lower() == "idempotency-key"
    assert contents() == {}


def test_base_revision_must_be_the_head(http: httpx.Client, worker: StandIn, contents: Contents) -> None:
    worker.append(RevisionKind.ROLLBACK, to=0)
    before = contents()
    answer = post(http, base_revision="r0")
    assert answer.status_code == 409
    assert "the head is r1" in answer.json()["detail"]
    assert answer.json()["errors"][0]["field"] == "base_revision"
    assert contents() == before
    assert post(http, base_revision="r1").status_code == 202


def test_list_pages_and_filters(http: httpx.Client, worker: StandIn) -> None:
    ids = [post(http, target_new=f"City {number}").json()["id"] for number in range(5)]
    worker.apply(ids[0])
    page = http.get("/edits", params={"limit": 2}).json()
    assert [edit["id"] for edit in page["edits"]] == [ids[4], ids[3]]
    assert page["revision"] == 1
    page = http.get("/edits", params={"limit": 3, "before": page["next"]}).json()
    assert [edit["id"] for edit in page["edits"]] == [ids[2], ids[1], ids[0]]
    assert page["next"] is None
    applied = http.get("/edits", params={"status": "applied"}).json()["edits"]
    assert [edit["id"] for edit in applied] == [ids[0]]
    assert len(http.get("/edits", params={"status": "queued"}).json()["edits"]) == 4


def test_an_edit_that_was_rolled_back_is_reverted(http: httpx.Client, worker: StandIn) -> None:
    edit_id = post(http).json()["id"]
    worker.apply(edit_id)
    applied = http.get(f"/edits/{edit_id}").json()
    assert (applied["status"], applied["revision"]) == ("applied", 1)
    assert applied["outcome"]["timings"] == {"value": 1.0}
    worker.append(RevisionKind.ROLLBACK, to=0)
    assert http.get(f"/edits/{edit_id}").json()["status"] == "reverted"
    worker.append(RevisionKind.ROLLBACK, to=1)
    assert http.get(f"/edits/{edit_id}").json()["status"] == "applied"


def test_cancel_a_queued_edit(http: httpx.Client) -> None:
    edit_id = post(http).json()["id"]
    answer = http.delete(f"/edits/{edit_id}")
    assert answer.status_code == 200
    assert answer.json()["status"] == "cancelled"
    again = http.delete(f"/edits/{edit_id}")
    assert again.status_code == 409
    assert "is cancelled and can no longer be cancelled" in again.json()["detail"]


def test_cancel_a_running_edit(http: httpx.Client, worker: StandIn) -> None:
    edit_id = post(http).json()["id"]
    worker.edits.take_up(edit_id)
    answer = http.delete(f"/edits/{edit_id}")
    assert answer.status_code == 202
    assert answer.json()["status"] == "running"
    assert worker.edits.cancel_requested(edit_id)


def test_a_running_edit_whose_worker_died_says_so(http: httpx.Client, worker: StandIn) -> None:
    edit_id = post(http).json()["id"]
    worker.edits.take_up(edit_id)
    assert http.get(f"/edits/{edit_id}").json()["notice"] is None
    worker.die()
    assert "is taken up again, or ended, when one is" in http.get(f"/edits/{edit_id}").json()["notice"]


@pytest.mark.parametrize("edit_id", ["0123456789abcdef", "nonsense", "0123456789ABCDEF", "%00", "a" * 2000, "*"])
@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("DELETE", ""), ("GET", "/events")])
def test_unknown_ids(http: httpx.Client, edit_id: str, method: str, suffix: str, contents: Contents) -> None:
    answer = http.request(method, f"/edits/{edit_id}{suffix}")
    assert answer.status_code in {404, 422}
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert contents() == {}


def test_events_follow_an_edit_to_its_end(http: httpx.Client, worker: StandIn) -> None:
    edit_id = post(http).json()["id"]
    seen = []
    with http.stream("GET", f"/edits/{edit_id}/events") as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["X-Model-Revision"] == "0"
        for name, edit in events(response):
            seen.append((name, (edit["progress"] or {}).get("step")))
            if name == "queued":
                worker.edits.take_up(edit_id)
            elif edit["progress"] is None and name == "running":
                worker.edits.report(edit_id, Progress(phase="value", step=3, steps=25))
            elif name == "running":
                worker.append(RevisionKind.EDIT, edit=edit_id, blob="blob")
    assert seen == [("queued", None), ("running", None), ("running", 3), ("applied", None)]


def test_events_of_an_ended_edit_end_at_once(http: httpx.Client, redis: Redis, keys: Keys) -> None:
    edits = Edits(redis, keys)
    edit = queue_edit(edits)
    edits.cancel(edit.id)
    with http.stream("GET", f"/edits/{edit.id}/events") as response:
        assert [name for name, _ in events(response)] == ["cancelled"]


def test_events_tell_that_the_worker_went_away(http: httpx.Client, worker: StandIn) -> None:
    edit_id = post(http).json()["id"]
    with http.stream("GET", f"/edits/{edit_id}/events") as response:
        stream = events(response)
        assert next(stream)[1]["notice"] is None
        worker.die()
        assert "No worker" in next(stream)[1]["notice"]


def test_a_client_that_leaves_its_events_leaves_nothing_behind(http: httpx.Client, redis: Redis, keys: Keys) -> None:
    edit = queue_edit(Edits(redis, keys))
    client: Any = redis

    def subscribers() -> int:
        return int(dict(client.pubsub_numsub(keys.edit_channel(edit.id)))[keys.edit_channel(edit.id)])

    with http.stream("GET", f"/edits/{edit.id}/events") as response:
        watched = events(response)  # kept: once it is gone, so is the connection
        next(watched)
        assert subscribers() == 1
    until = time.monotonic() + 10
    while subscribers() and time.monotonic() < until:
        time.sleep(0.02)
    assert subscribers() == 0
