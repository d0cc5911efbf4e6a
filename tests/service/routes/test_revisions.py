"""Revisions over HTTP: the history, and the way back."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.contracts.lane import LaneRequest
from service.contracts.revisions import RevisionKind
from tests.service.stand_in import StandIn, queue_edit

Contents = Callable[[], dict[str, bytes | None]]


def test_the_history_newest_first(http: httpx.Client, worker: StandIn) -> None:
    edit = queue_edit(worker.edits)
    worker.apply(edit.id)
    worker.append(RevisionKind.ROLLBACK, to=0)
    page = http.get("/revisions", params={"limit": 2}).json()
    assert [(r["revision"], r["kind"], r["active"]) for r in page["revisions"]] == [
        (2, "rollback", []),
        (1, "edit", [edit.id]),
    ]
    assert (page["next"], page["revision"]) == (1, 2)
    rest = http.get("/revisions", params={"before": page["next"]}).json()
    assert [r["kind"] for r in rest["revisions"]] == ["base"]
    assert rest["next"] is None


def test_an_empty_history(http: httpx.Client) -> None:
    assert http.get("/revisions").json() == {"revisions": [], "next": None, "revision": None}
    answer = http.get("/revisions/0")
    assert answer.status_code == 404
    assert "There are none yet" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["1", "r1"])
def test_one_revision(http: httpx.Client, worker: StandIn, name: str) -> None:
    edit = queue_edit(worker.edits)
    worker.apply(edit.id)
    worker.append(RevisionKind.ROLLBACK, to=0)
    answer = http.get(f"/revisions/{name}")
    assert answer.status_code == 200
    assert answer.headers["X-Model-Revision"] == "1"
    assert (answer.json()["parent"], answer.json()["active"]) == (0, [edit.id])


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("name", "status"), [("7", 404), ("r7", 404), ("head", 422), ("-1", 422), ("1.5", 422), ("r", 422)]
)
def test_a_revision_that_is_none(http: httpx.Client, name: str, status: int) -> None:
    answer = http.get(f"/revisions/{name}")
    assert answer.status_code == status
    if status == 422:
        assert answer.json()["errors"] == [{"field": "revision", "detail": "must be a revision such as 3 or r3"}]
    else:
        assert "Revisions r0 to r0 exist" in answer.json()["detail"]


def test_rollback(http: httpx.Client, worker: StandIn) -> None:
    edit = queue_edit(worker.edits)
    worker.apply(edit.id)
    answer = http.post("/rollback", json={"to": "r0"})
    assert answer.status_code == 201
    assert answer.headers["Location"] == "/revisions/2"
    assert answer.headers["X-Model-Revision"] == "2"
    assert (answer.json()["kind"], answer.json()["to"], answer.json()["active"]) == ("rollback", 0, [])
    assert http.get(answer.headers["Location"]).json() == answer.json()


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"to": 7}, 404, None),
        ({"to": 10**30}, 404, None),
        ({}, 422, "to"),
        ({"to": "head"}, 422, "to"),
        ({"to": -1}, 422, "to"),
        ({"to": True}, 422, "to"),
        ({"to": 0, "from": 1}, 422, "from"),
        ([], 422, "body"),
    ],
)
def test_a_rollback_to_nowhere(
    http: httpx.Client, worker: StandIn, contents: Contents, body: Any, status: int, field: str | None
) -> None:
    before = contents()
    answer = http.post("/rollback", json=body)
    assert answer.status_code == status
    assert [error["field"] for error in answer.json()["errors"]] == ([field] if field else [])
    assert contents() == before
    assert worker.asked == []


def test_a_rollback_without_a_worker(http: httpx.Client, worker: StandIn, contents: Contents) -> None:
    worker.die()
    before = contents()
    answer = http.post("/rollback", json={"to": 0})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert contents() == before


def test_a_rollback_that_is_not_answered_points_to_the_history(http: httpx.Client, worker: StandIn) -> None:
    def nothing(_: LaneRequest) -> None:
        return None

    worker.answer = nothing
    answer = http.post("/rollback", json={"to": 0})
    assert answer.status_code == 504
    assert "GET /revisions" in answer.json()["detail"]


def test_revert_tells_what_was_computed_with_the_edit(http: httpx.Client, worker: StandIn) -> None:
    edits = [queue_edit(worker.edits) for _ in range(3)]
    for edit in edits:
        worker.apply(edit.id)
    answer = http.post(f"/edits/{edits[1].id}/revert")
    assert answer.status_code == 201
    assert (answer.headers["Location"], answer.headers["X-Model-Revision"]) == ("/revisions/4", "4")
    body = answer.json()
    assert (body["revision"]["kind"], body["revision"]["edit"]) == ("revert", edits[1].id)
    assert body["revision"]["active"] == [edits[0].id, edits[2].id]
    assert body["computed_with_it"] == [edits[2].id]
    assert body["rescore"] == {"revision": 4, "facts": "active"}
    back = http.post(f"/edits/{edits[1].id}/reapply")
    assert back.status_code == 201
    assert back.json()["active"] == [edit.id for edit in edits]
    assert http.get("/revisions/4").json()["active_count"] == 2


def test_a_page_shows_the_last_of_many_active_edits(http: httpx.Client, worker: StandIn) -> None:
    edits = [queue_edit(worker.edits) for _ in range(25)]
    for edit in edits:
        worker.apply(edit.id)
    (newest,) = http.get("/revisions", params={"limit": 1}).json()["revisions"]
    assert (newest["active_count"], newest["active"]) == (25, [edit.id for edit in edits[-20:]])
    assert http.get("/revisions/25").json()["active"] == [edit.id for edit in edits]


@pytest.mark.parametrize("what", ["revert", "reapply"])
def test_a_toggle_of_what_is_not_there(http: httpx.Client, worker: StandIn, what: str) -> None:
    assert http.post(f"/edits/{'0' * 16}/{what}").status_code == 404
    edit = queue_edit(worker.edits)
    worker.die()
    answer = http.post(f"/edits/{edit.id}/{what}")
    assert answer.status_code == 503
    assert answer.json()["type"].endswith(":no-worker")
