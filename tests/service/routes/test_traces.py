"""Traces over HTTP: asked for, refused, listed, watched, cancelled."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.contracts.jobs import Progress
from service.contracts.traces import MOST_TOKENS, Trace
from tests.service.stand_in import EIFFEL, StandIn
from tests.service.tracing import BODY, carry_out, trace_result, traces_of
from tests.service.watching import events

Contents = Callable[[], dict[str, bytes | None]]
Rung = Callable[[], list[str]]


def post(http: httpx.Client, *, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    return http.post("/traces", json={**BODY, **body}, headers=headers)


def test_a_trace_is_asked_for_and_found(http: httpx.Client, worker: StandIn, rung: Rung) -> None:
    worker.apply(http.post("/edits", json=EIFFEL).json()["id"])
    answer = post(http, revision="base", target="Paris", samples=3)
    assert answer.status_code == 202
    queued = Trace.model_validate(answer.json())
    assert (queued.status, queued.position, queued.revision, queued.result) == ("queued", 0, None, None)
    assert (queued.request.samples, queued.request.revision, queued.request.target) == (3, "base", "Paris")
    assert rung()[-1] == queued.id
    found = carry_out(worker, queued.id)
    again = http.get(answer.headers["Location"])
    assert again.headers["X-Model-Revision"] == "0"
    trace = Trace.model_validate(again.json())
    assert (trace.status, trace.revision, trace.result) == ("completed", 0, found)


def test_jobs_of_all_kinds_take_turns(http: httpx.Client, worker: StandIn) -> None:
    paths = {"/edits": EIFFEL, "/evaluations": {"facts": [EIFFEL]}, "/traces": BODY}
    ids = {path: http.post(path, json=body).json()["id"] for path, body in paths.items()}
    positions = {path: http.get(f"{path}/{ids[path]}").json()["position"] for path in paths}
    assert positions == {"/edits": 0, "/evaluations": 1, "/traces": 2}
    worker.apply(ids["/edits"])
    worker.evaluate(ids["/evaluations"])
    assert http.get(f"/traces/{ids['/traces']}").json()["position"] == 0
    assert http.get(f"/traces/{ids['/edits']}").status_code == 404


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("changes", "status", "field", "words"),
    [
        ({"revision": "r7"}, 404, None, "Revisions r0 to r0 exist"),
        ({"revision": "newest"}, 422, "revision", "base, head, or a revision"),
        ({"subject": "Big Ben"}, 422, "subject", "must occur in the prompt"),
        ({"subject": "The Eiffel Tower "}, 422, "subject", "white space"),
        ({"prompt": "The Eiffel Tower is "}, 422, "prompt", "must not end with a space"),
        ({"prompt": "The Eiffel Tower " + "is " * 50 + "in"}, 422, "prompt", "shorten it"),
        ({"target": "\n"}, 422, "target", "white space"),
        ({"kinds": []}, 422, "kinds", "must not be empty"),
        ({"kinds": ["mlp", "mlp"]}, 422, "kinds", "each kind once"),
        ({"kinds": ["residual"]}, 422, "kinds[0]", "'hidden', 'mlp' or 'attn'"),
        ({"tokens": "none"}, 422, "tokens", "'last-subject'"),
        ({"samples": 0}, 422, "samples", "greater than or equal to 1"),
        ({"samples": 101}, 422, "samples", "less than or equal to 100"),
        ({"noise": 0}, 422, "noise", "greater than 0"),
        ({"window": 0}, 422, "window", "greater than or equal to 1"),
        ({"layers": [3]}, 422, "layers", "is not a known field"),
    ],
)
def test_a_bad_trace_changes_nothing(
    http: httpx.Client, contents: Contents, changes: dict[str, Any], status: int, field: str | None, words: str
) -> None:
    before = contents()
    answer = post(http, **changes)
    problem = answer.json()
    assert answer.status_code == status
    assert [error["field"] for error in problem["errors"]] == ([field] if field else [])
    assert words in problem["detail"]
    assert contents() == before


def test_a_prompt_may_fit_the_model_and_be_too_long_for_a_trace(http: httpx.Client, worker: StandIn) -> None:
    worker.publish(context_length=10 * MOST_TOKENS)
    long = "The Eiffel Tower " + "is " * MOST_TOKENS + "in"
    assert f"a trace takes {MOST_TOKENS}" in post(http, prompt=long).json()["detail"]


def test_without_a_worker_it_waits_and_says_so(http: httpx.Client) -> None:
    answer = post(http)
    assert answer.status_code == 202
    assert answer.json()["notice"] == "No worker for test-model is there; the trace waits until one is."


@pytest.mark.usefixtures("worker")
def test_the_same_idempotency_key_gives_the_same_trace(http: httpx.Client) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = post(http, headers=key)
    assert post(http, headers=key, seed=0).json() == first.json()
    assert post(http, headers=key, seed=1).status_code == 409
    assert len(http.get("/traces").json()["traces"]) == 1


def test_only_one_trace_has_its_effects(http: httpx.Client, worker: StandIn) -> None:
    subjects = ["Big Ben", "The Louvre"]
    posted = post(http, noise_subjects=subjects).json()
    traces = traces_of(worker)
    found = trace_result(traces.get(posted["id"]).request, 0)
    seen = []
    with http.stream("GET", f"/traces/{posted['id']}/events") as response:
        for name, trace in events(response):
            seen.append((name, (trace["progress"] or {}).get("step")))
            if name == "queued":
                traces.take_up(posted["id"])
            elif trace["progress"] is None and name == "running":
                traces.report(posted["id"], Progress(phase="restore", step=3, steps=40))
            elif name == "running":
                traces.complete(posted["id"], found)  # in one step: what is between two may be seen, or not
    assert seen == [("queued", None), ("running", None), ("running", 3), ("completed", None)]
    (listed,) = http.get("/traces").json()["traces"]
    for shown in (trace, listed):
        assert (shown["result"]["effects"], shown["request"]["noise_subjects"]) == ({}, [])
        assert shown["result"]["high"] == 0.75
    whole = http.get(f"/traces/{posted['id']}").json()
    assert whole["request"]["noise_subjects"] == subjects
    assert whole["result"]["effects"].keys() == {"hidden", "mlp", "attn"}


def test_list_pages_and_filters(http: httpx.Client, worker: StandIn) -> None:
    ids = [post(http, seed=seed).json()["id"] for seed in range(3)]
    carry_out(worker, ids[1])
    page = http.get("/traces", params={"limit": 2}).json()
    assert [trace["id"] for trace in page["traces"]] == [ids[2], ids[1]]
    page = http.get("/traces", params={"limit": 2, "before": page["next"]}).json()
    assert ([trace["id"] for trace in page["traces"]], page["next"]) == ([ids[0]], None)
    completed = http.get("/traces", params={"status": "completed"}).json()["traces"]
    assert [trace["id"] for trace in completed] == [ids[1]]
    assert http.get("/traces", params={"status": "applied"}).status_code == 422


def test_cancel(http: httpx.Client, worker: StandIn) -> None:
    running, queued = (post(http).json()["id"] for _ in range(2))
    answer = http.delete(f"/traces/{queued}")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert http.delete(f"/traces/{queued}").status_code == 409
    traces_of(worker).take_up(running)
    answer = http.delete(f"/traces/{running}")
    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    assert traces_of(worker).cancel_requested(running)


@pytest.mark.parametrize("trace_id", ["0123456789abcdef", "nonsense", "%00", "a" * 2000])
@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("DELETE", ""), ("GET", "/events"), ("GET", ".png")])
def test_unknown_ids(http: httpx.Client, trace_id: str, method: str, suffix: str, contents: Contents) -> None:
    answer = http.request(method, f"/traces/{trace_id}{suffix}")
    assert answer.status_code in {404, 422}
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert contents() == {}
