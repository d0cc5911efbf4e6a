"""Benchmarks over HTTP: asked for, refused, listed, watched, cancelled, reported."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.contracts.benchmarks import Benchmark, BenchmarkRequest, BenchmarkResult
from service.contracts.jobs import Progress
from tests.service.benchmarking import BODY, RECORDS, benchmarks_of, carry_out
from tests.service.stand_in import EIFFEL, StandIn
from tests.service.watching import events

Contents = Callable[[], dict[str, bytes | None]]
Rung = Callable[[], list[str]]


def post(http: httpx.Client, *, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    return http.post("/benchmarks", json={**BODY, **body}, headers=headers)


def test_a_benchmark_is_asked_for_and_found(http: httpx.Client, worker: StandIn, rung: Rung) -> None:
    worker.apply(http.post("/edits", json=EIFFEL).json()["id"])
    methods = ["rome", {"method": "rome", "hparams": {"v_lr": 0.1}}]
    answer = post(http, methods=methods, n=2, likelier_only=True)
    assert answer.status_code == 202
    queued = Benchmark.model_validate(answer.json())
    assert (queued.status, queued.position, queued.revision, queued.result) == ("queued", 0, None, None)
    assert [(choice.method, choice.hparams) for choice in queued.request.methods] == [
        ("rome", {}),
        ("rome", {"v_lr": 0.1}),
    ]
    assert (queued.request.records, queued.request.revision) == ((), "base")
    assert rung()[-1] == queued.id
    found = carry_out(worker, queued.id)
    again = http.get(answer.headers["Location"])
    assert again.headers["X-Model-Revision"] == "0", "the base, whatever the head is"
    whole = Benchmark.model_validate(again.json())
    assert (whole.status, whole.revision, whole.result) == ("completed", 0, found)
    assert len(whole.request.records) == len(RECORDS)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("changes", "status", "field", "words"),
    [
        ({"revision": "r7"}, 404, None, "Revisions r0 to r0 exist"),
        ({"methods": []}, 422, "methods", "must not be empty"),
        ({"methods": ["rome", "romme"]}, 422, "methods[1].method", "is not a method of this worker; it has: rome"),
        ({"methods": ["rome", {"method": "rome", "hparams": {"lr": 1}}]}, 422, "methods[1].hparams.lr", "hyperparam"),
        ({"methods": [{"method": "rome", "hparams": {"v_lr": -1}}]}, 422, "methods[0].hparams.v_lr", "minimum"),
        ({"records": [], "dataset": "/etc/passwd"}, 422, "dataset", "is not a known data set; take one of palimpsest,"),
        ({"records": [RECORDS[0], RECORDS[0]]}, 422, "body", "case_id of its own"),
        ({"records": [{**RECORDS[0], "facts": []}]}, 422, "records[0].facts", "must not be empty"),
        ({"mode": "all"}, 422, "mode", "'single', 'batch' or 'sequential'"),
        ({"batch_size": 2}, 422, "batch_size", "must be 1 in mode single"),
        ({"n": 0}, 422, "n", "greater than or equal to 1"),
        ({"checkpoints": 3}, 422, "checkpoints", "has no effect in mode single; leave it out, or take mode sequential"),
        ({"checkpoints": 5, "mode": "batch"}, 422, "checkpoints", "has no effect in mode batch"),
        ({"left_out": -1}, 422, "left_out", "greater than or equal to 0"),
        ({"faults": ["x" * 501]}, 422, "faults[0]", "at most 500 characters"),
        ({"faults": ["x"] * 101}, 422, "faults", "at most 100 items"),
        ({"folder": "here"}, 422, "folder", "is not a known field"),
    ],
)
def test_a_bad_benchmark_changes_nothing(
    http: httpx.Client, contents: Contents, changes: dict[str, Any], status: int, field: str | None, words: str
) -> None:
    before = contents()
    answer = post(http, **changes)
    problem = answer.json()
    assert answer.status_code == status, problem
    assert [error["field"] for error in problem["errors"]] == ([] if field is None else [field])
    assert words in problem["detail"]
    assert contents() == before


@pytest.mark.usefixtures("worker")
def test_checkpoints_are_of_a_sequence_and_elsewhere_only_those_of_old_are_read(
    http: httpx.Client, worker: StandIn
) -> None:
    assert post(http, checkpoints=5, mode="sequential").json()["request"]["checkpoints"] == 5
    old = BenchmarkRequest.model_validate({**BODY, "checkpoints": 3})
    benchmark_id, _ = benchmarks_of(worker).create(old)
    assert http.get(f"/benchmarks/{benchmark_id}").json()["request"]["checkpoints"] == 3
    assert len(http.get("/benchmarks").json()["benchmarks"]) == 2


def test_without_a_worker_it_waits_and_says_so(http: httpx.Client) -> None:
    answer = http.post("/benchmarks", json={"methods": ["rome"]})
    assert answer.status_code == 202
    assert answer.json()["notice"] == "No worker for test-model is there; the benchmark waits until one is."


@pytest.mark.usefixtures("worker")
def test_the_same_idempotency_key_gives_the_same_benchmark(http: httpx.Client) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = post(http, headers=key)
    assert post(http, headers=key, mode="single").json() == first.json()
    assert post(http, headers=key, n=7).status_code == 409
    assert len(http.get("/benchmarks").json()["benchmarks"]) == 1


def test_it_is_watched_with_the_time_left_and_without_its_records(http: httpx.Client, worker: StandIn) -> None:
    posted = post(http).json()
    benchmarks = benchmarks_of(worker)
    seen = []
    with http.stream("GET", f"/benchmarks/{posted['id']}/events") as response:
        for name, benchmark in events(response):
            progress = benchmark["progress"]
            seen.append((name, progress and (progress["step"], progress["seconds_left"])))
            if name == "queued":
                benchmarks.take_up(posted["id"])
            elif progress is None and name == "running":
                benchmarks.report(posted["id"], Progress(phase="rome: value", step=1, steps=3, seconds_left=12.5))
            elif name == "running" and len(seen) == 3:  # what comes of it step by step may be seen, or not
                carry_out(worker, posted["id"])
    assert seen[:3] == [("queued", None), ("running", None), ("running", (1, 12.5))]
    assert seen[-1] == ("completed", None)
    (listed,) = http.get("/benchmarks", params={"status": "completed"}).json()["benchmarks"]
    for shown in (benchmark, listed):
        assert (shown["result"]["records"], shown["request"]["records"]) == ([], [])
        assert shown["result"]["methods"][0]["summary"]["after"]["EA"] == 0.875


def test_cancel(http: httpx.Client, worker: StandIn) -> None:
    queued, running = (post(http).json()["id"] for _ in range(2))
    assert http.delete(f"/benchmarks/{queued}").status_code == 200
    benchmarks_of(worker).take_up(running)
    assert http.delete(f"/benchmarks/{running}").status_code == 202
    assert benchmarks_of(worker).cancel_requested(running)
    assert http.delete(f"/benchmarks/{queued}").status_code == 409
    assert http.delete("/benchmarks/none").status_code == 404


@pytest.mark.parametrize(
    ("form", "media", "words"),
    [
        (None, "application/json", '"perplexity_ratio": 1.25'),
        ("json", "application/json", '"perplexity_ratio": 1.25'),
        ("md", "text/markdown", "| rome | 69.0"),
        ("html", "text/html", "<svg"),
        ("easyedit", "application/json", '"requested_rewrite"'),
    ],
)
def test_reports(http: httpx.Client, worker: StandIn, form: str | None, media: str, words: str) -> None:
    benchmark_id = post(http).json()["id"]
    path = f"/benchmarks/{benchmark_id}/report"
    params = {} if form is None else {"format": form}
    early = http.get(path, params=params)
    assert (early.status_code, early.json()["type"].split(":")[-1]) == (409, "benchmark-not-completed")
    found = carry_out(worker, benchmark_id)
    answer = http.get(path, params=params)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith(media)
    assert answer.headers["X-Model-Revision"] == "0"
    assert words in answer.text
    if form in (None, "json"):
        assert BenchmarkResult.model_validate_json(answer.text) == found
    assert http.get(path, params={"format": "pdf"}).status_code == 422
