"""Evaluations over HTTP: asked for, refused, listed, watched, cancelled."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.contracts.edits import Fact
from service.contracts.jobs import Progress
from service.contracts.revisions import RevisionKind
from tests.service.stand_in import EIFFEL, StandIn, batch_json, evaluation_result
from tests.service.watching import events

Contents = Callable[[], dict[str, bytes | None]]
Rung = Callable[[], list[str]]


def post(http: httpx.Client, *, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    return http.post("/evaluations", json=body, headers=headers)


def applied(http: httpx.Client, worker: StandIn, **changes: Any) -> str:
    edit_id = str(http.post("/edits", json={**EIFFEL, **changes}).json()["id"])
    worker.apply(edit_id)
    return edit_id


def test_what_a_revert_offers_scores_the_edits_still_in_force(http: httpx.Client, worker: StandIn) -> None:
    first, second = applied(http, worker), applied(http, worker, target_new="Berlin")
    rescore = http.post(f"/edits/{first}/revert").json()["rescore"]
    answer = http.post("/evaluations", json=rescore)
    assert answer.status_code == 202
    queued = answer.json()
    assert (queued["status"], queued["fact_count"], queued["revision"], queued["result"]) == (
        "queued",
        None,
        None,
        None,
    )
    assert http.get(answer.headers["Location"]).json() == queued
    worker.evaluate(queued["id"])
    again = http.get(answer.headers["Location"])
    found = again.json()
    assert (found["status"], found["fact_count"], found["revision"]) == ("completed", 1, 3)
    assert again.headers["X-Model-Revision"] == "3"
    assert [(fact["edit"], fact["target_new"]) for fact in found["result"]["facts"]] == [(second, "Berlin")]
    assert (found["result"]["revision"], found["result"]["checksum"]) == (3, "c3")
    assert found["result"]["summary"]["after"]["EA"] == 1.0


def test_an_evaluation_takes_its_turn_among_the_edits(http: httpx.Client, worker: StandIn, rung: Rung) -> None:
    edit = http.post("/edits", json=EIFFEL).json()
    evaluation = post(http, facts=[EIFFEL]).json()
    last = http.post("/edits", json=EIFFEL).json()
    assert [job["position"] for job in (edit, evaluation, last)] == [0, 1, 2]
    assert rung() == [edit["id"], evaluation["id"], last["id"]]
    worker.apply(edit["id"])
    assert http.get(f"/evaluations/{evaluation['id']}").json()["position"] == 0
    assert (worker.edits.pending(), worker.evaluations.pending()) == ([last["id"]], [evaluation["id"]])


@pytest.mark.parametrize("path", ["/edits", "/evaluations"])
def test_a_job_of_one_kind_is_none_of_the_other(http: httpx.Client, worker: StandIn, path: str) -> None:
    ids = {"/edits": applied(http, worker), "/evaluations": post(http).json()["id"]}
    other = ids[next(kind for kind in ids if kind != path)]
    for method, suffix in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
        answer = http.request(method, f"{path}/{other}{suffix}")
        assert answer.status_code == 404
        assert f"GET {path} lists all" in answer.json()["detail"]
    assert [job["id"] for job in http.get(path).json()[path[1:]]] == [ids[path]]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("body", "status", "field", "words"),
    [
        ({"revision": "r7", "facts": [EIFFEL]}, 404, None, "Revisions r0 to r0 exist"),
        ({"revision": 7}, 404, None, "Revisions r0 to r0 exist"),
        ({"revision": "last"}, 422, "revision", "base, head, or a revision"),
        ({}, 422, "facts", "no edit is in force at r0"),
        ({"revision": "base"}, 422, "facts", "no edit is in force at r0"),
        ({"facts": []}, 422, "facts", "must not be empty"),
        ({"facts": "all"}, 422, "facts", '"active"'),
        ({"facts": EIFFEL}, 422, "facts", "must be a list"),
        ({"facts": [EIFFEL] * 10_001}, 422, "facts", "at most 10000"),
        ({"facts": [EIFFEL, {**EIFFEL, "subject": "Big Ben"}]}, 422, "facts[1].subject", "must occur in the prompt"),
        ({"facts": [{**EIFFEL, "paraphrases": ["a", "b " * 50]}]}, 422, "facts[0].paraphrases[1]", "shorten it"),
        ({"facts": [EIFFEL], "method": "rome"}, 422, "method", "is not a known field"),
        ([EIFFEL], 422, "body", "JSON object"),
    ],
)
def test_a_bad_evaluation_changes_nothing(
    http: httpx.Client, contents: Contents, body: Any, status: int, field: str | None, words: str
) -> None:
    before = contents()
    answer = http.post("/evaluations", json=body)
    problem = answer.json()
    assert answer.status_code == status
    assert [error["field"] for error in problem["errors"]] == ([field] if field else [])
    assert words in problem["detail"]
    assert contents() == before


def test_edits_that_wait_may_be_what_is_scored(http: httpx.Client, worker: StandIn) -> None:
    edit_id = http.post("/edits", json=EIFFEL).json()["id"]
    answer = post(http)
    assert answer.status_code == 202
    worker.apply(edit_id)
    worker.evaluate(answer.json()["id"])
    (fact,) = http.get(answer.headers["Location"]).json()["result"]["facts"]
    assert fact["edit"] == edit_id
    assert post(http, revision="r0").status_code == 422, "the base stays without edits whatever waits"


def test_prompts_are_as_long_as_the_context_without_templates(http: httpx.Client, worker: StandIn) -> None:
    """An edit's prompt must leave room for the context templates; a score's need not."""
    worker.publish(context_length=40, template_tokens=20)
    long = {**EIFFEL, "prompt": "The Eiffel Tower " + "is " * 30}
    long["prompt"] = long["prompt"].strip()
    assert http.post("/edits", json=long).status_code == 422
    assert post(http, facts=[long]).status_code == 202


def test_without_a_worker_it_waits_and_says_so(http: httpx.Client, rung: Rung) -> None:
    answer = post(http, facts=[EIFFEL])
    evaluation = answer.json()
    assert answer.status_code == 202
    assert evaluation["notice"] == "No worker for test-model is there; the evaluation waits until one is."
    assert rung() == [evaluation["id"]]
    assert http.get("/evaluations").json()["evaluations"][0]["notice"] == evaluation["notice"]
    assert post(http, revision=0, facts=[EIFFEL]).status_code == 404


@pytest.mark.usefixtures("worker")
def test_the_same_idempotency_key_gives_the_same_evaluation(http: httpx.Client) -> None:
    key = {"Idempotency-Key": "k-1"}
    edit = http.post("/edits", json=EIFFEL, headers=key)
    first = post(http, headers=key, facts=[EIFFEL])
    assert (edit.status_code, first.status_code) == (202, 202), "a key of edits is none of evaluations"
    again = post(http, headers=key, facts=[EIFFEL], revision="head")
    assert again.json() == first.json()
    other = post(http, headers=key, facts=[EIFFEL], revision="base")
    assert other.status_code == 409
    assert "was used for evaluation" in other.json()["detail"]
    assert len(http.get("/evaluations").json()["evaluations"]) == 1


def test_only_one_evaluation_has_all_facts(http: httpx.Client, worker: StandIn) -> None:
    posted = post(http, facts=batch_json(20)["facts"]).json()
    found = evaluation_result([(Fact.model_validate(fact), None) for fact in batch_json(20)["facts"]])
    with http.stream("GET", f"/evaluations/{posted['id']}/events") as response:
        seen = []
        for name, evaluation in events(response):
            seen.append((name, (evaluation["progress"] or {}).get("step")))
            assert (evaluation["fact_count"], len(evaluation["request"]["facts"])) == (20, 3)
            if name == "queued":
                worker.evaluations.take_up(posted["id"])
            elif evaluation["progress"] is None and name == "running":
                worker.evaluations.report(posted["id"], Progress(phase="measure", step=3, steps=40))
            elif name == "running":
                worker.evaluations.complete(posted["id"], found)
    assert seen == [("queued", None), ("running", None), ("running", 3), ("completed", None)]
    (listed,) = http.get("/evaluations").json()["evaluations"]
    assert [len(shown["result"]["facts"]) for shown in (evaluation, listed)] == [3, 3]
    whole = http.get(f"/evaluations/{posted['id']}").json()
    assert (len(whole["request"]["facts"]), len(whole["result"]["facts"])) == (20, 20)


def test_list_pages_and_filters(http: httpx.Client, worker: StandIn) -> None:
    applied(http, worker)
    ids = [post(http, facts=[EIFFEL]).json()["id"] for _ in range(5)]
    worker.evaluate(ids[0])
    page = http.get("/evaluations", params={"limit": 2}).json()
    assert [evaluation["id"] for evaluation in page["evaluations"]] == [ids[4], ids[3]]
    assert page["revision"] == 1
    page = http.get("/evaluations", params={"limit": 3, "before": page["next"]}).json()
    assert [evaluation["id"] for evaluation in page["evaluations"]] == [ids[2], ids[1], ids[0]]
    assert page["next"] is None, "the edit before them is of another kind"
    completed = http.get("/evaluations", params={"status": "completed"}).json()["evaluations"]
    assert [evaluation["id"] for evaluation in completed] == [ids[0]]
    assert http.get("/evaluations", params={"status": "applied"}).status_code == 422


def test_cancel(http: httpx.Client, worker: StandIn) -> None:
    running, queued = (post(http, facts=[EIFFEL]).json()["id"] for _ in range(2))
    answer = http.delete(f"/evaluations/{queued}")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    again = http.delete(f"/evaluations/{queued}")
    assert again.status_code == 409
    assert "is cancelled and can no longer be cancelled" in again.json()["detail"]
    worker.evaluations.take_up(running)
    answer = http.delete(f"/evaluations/{running}")
    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    assert worker.evaluations.cancel_requested(running)


@pytest.mark.parametrize("evaluation_id", ["0123456789abcdef", "nonsense", "%00", "a" * 2000])
@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("DELETE", ""), ("GET", "/events")])
def test_unknown_ids(http: httpx.Client, evaluation_id: str, method: str, suffix: str, contents: Contents) -> None:
    answer = http.request(method, f"/evaluations/{evaluation_id}{suffix}")
    assert answer.status_code in {404, 422}
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert contents() == {}


def test_answers_name_the_head_until_the_revision_is_known(http: httpx.Client, worker: StandIn) -> None:
    applied(http, worker)
    posted = post(http, revision="base", facts=[EIFFEL])
    assert posted.headers["X-Model-Revision"] == "1"
    worker.evaluate(posted.json()["id"])
    worker.append(RevisionKind.ROLLBACK, to=0)
    assert http.get(posted.headers["Location"]).headers["X-Model-Revision"] == "0"
    assert http.get("/evaluations").headers["X-Model-Revision"] == "2"
