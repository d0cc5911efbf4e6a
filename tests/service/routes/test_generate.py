"""Generation over HTTP: what is asked through the stream, and what a client is told when nobody answers."""

import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from redis import Redis

from service.contracts.lane import LaneAnswer, LaneRequest
from service.contracts.model import WorkerState
from service.contracts.revisions import RevisionKind
from service.errors import invalid
from service.keys import Keys
from tests.service.stand_in import CONTEXT, StandIn

Contents = Callable[[], dict[str, bytes | None]]


def nothing(_: LaneRequest) -> LaneAnswer | None:
    return None


def lane_length(redis: Redis, keys: Keys) -> int:
    client: Any = redis
    return int(client.xlen(keys.lane))


def test_before_and_after_of_every_prompt(http: httpx.Client, worker: StandIn, redis: Redis, keys: Keys) -> None:
    worker.append(RevisionKind.ROLLBACK, to=0)
    answer = http.get(
        "/generate", params={"prompt": ["one", "two"], "after": "r1", "max_new_tokens": 4, "min_revision": "r1"}
    )
    body = answer.json()
    assert answer.status_code == 200
    assert answer.headers["X-Model-Revision"] == "1"
    assert (body["revision"], body["model"]) == (1, "test-model")
    assert [result["prompt"] for result in body["results"]] == ["one", "two"]
    assert body["results"][0]["before"]["revision"] == 0
    asked = worker.asked[0].body.model_dump()
    assert (asked["before"], asked["after"], asked["max_new_tokens"]) == ("base", 1, 4)
    assert lane_length(redis, keys) == 0


def test_post_takes_the_same_as_json(http: httpx.Client, worker: StandIn) -> None:
    answer = http.post("/generate", json={"prompt": ["one"], "before": 0, "temperature": 0.5, "seed": 7})
    assert answer.status_code == 200
    assert answer.json()["seed"] == 7
    assert worker.asked[0].body.model_dump()["temperature"] == 0.5


def test_the_header_names_the_revision_of_the_after_side(http: httpx.Client, worker: StandIn) -> None:
    worker.append(RevisionKind.ROLLBACK, to=0)
    answer = http.get("/generate", params={"prompt": "one", "after": "base"})
    assert answer.headers["X-Model-Revision"] == str(answer.json()["revision"]) == "0"


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt[0]"),
        ({"prompt": "a\0"}, "prompt[0]"),
        ({"prompt": ["a"] * 17}, "prompt"),
        ({"prompt": "a", "before": "yesterday"}, "before"),
        ({"prompt": "a", "max_new_tokens": "many"}, "max_new_tokens"),
        ({"prompt": "a", "max_new_tokens": 0}, "max_new_tokens"),
        ({"prompt": "a", "temperature": "nan"}, "temperature"),
        ({"prompt": "a", "top_p": 0}, "top_p"),
        ({"prompt": "a", "seed": -1}, "seed"),
        ({"prompt": "a", "temprature": 1}, "temprature"),
        ({"prompt": "a " * CONTEXT, "max_new_tokens": 1}, "prompt[0]"),
    ],
)
def test_bad_input(http: httpx.Client, worker: StandIn, contents: Contents, params: dict[str, Any], field: str) -> None:
    before = contents()
    answer = http.get("/generate", params=params)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field
    assert field in answer.json()["detail"]
    assert contents() == before
    assert worker.asked == []


@pytest.mark.usefixtures("worker")
def test_a_revision_that_does_not_exist(http: httpx.Client) -> None:
    answer = http.get("/generate", params={"prompt": "a", "after": "r7"})
    assert answer.status_code == 404
    assert "There is no revision r7" in answer.json()["detail"]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("revision", ["r7", 2**70])
def test_a_revision_that_is_not_there_yet(http: httpx.Client, revision: str | int) -> None:
    answer = http.post("/generate", json={"prompt": ["a"], "min_revision": revision})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.json()["type"].endswith(":revision-not-reached")
    assert "the head is r0" in answer.json()["detail"]


def test_a_revision_that_comes_is_waited_for(http: httpx.Client, worker: StandIn) -> None:
    """Also by who asks for its texts: it exists when the answer is made."""
    asked = threading.Event()
    answers: list[httpx.Response] = []

    def ask() -> None:
        asked.set()
        answers.append(http.get("/generate", params={"prompt": "a", "after": "r1", "min_revision": 1}))

    thread = threading.Thread(target=ask)
    thread.start()
    assert asked.wait(60)
    worker.append(RevisionKind.ROLLBACK, to=0)
    thread.join(60)
    assert [answer.status_code for answer in answers] == [200]
    assert answers[0].json()["revision"] == 1


def test_any_ready_worker_will_do(http: httpx.Client, worker: StandIn) -> None:
    worker.heartbeat(WorkerState.BEHIND)
    worker.heartbeat(worker="follower", leader=False)
    assert http.get("/generate", params={"prompt": "a"}).status_code == 200
    worker.die("follower")
    behind = http.get("/generate", params={"prompt": "a"})
    assert behind.status_code == 503
    assert "it is behind (stands in)" in behind.json()["detail"]


def test_without_a_worker(http: httpx.Client, worker: StandIn) -> None:
    worker.heartbeat(WorkerState.STARTING)
    starting = http.get("/generate", params={"prompt": "a"})
    worker.die()
    gone = http.get("/generate", params={"prompt": "a"})
    assert (starting.status_code, gone.status_code) == (503, 503)
    assert starting.headers["Retry-After"] == gone.headers["Retry-After"] == "5"
    assert "it is starting" in starting.json()["detail"]
    assert "none is running" in gone.json()["detail"]


def test_the_workers_problem_is_passed_on(http: httpx.Client, worker: StandIn) -> None:
    worker.answer = lambda _: LaneAnswer(problem=invalid("prompt[0]", "is odd; straighten it").problem)
    answer = http.get("/generate", params={"prompt": "a"})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"field": "prompt[0]", "detail": "is odd; straighten it"}]
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]


def test_a_worker_that_does_not_answer(http: httpx.Client, worker: StandIn, redis: Redis, keys: Keys) -> None:
    worker.answer = nothing
    answer = http.get("/generate", params={"prompt": "a"})
    assert answer.status_code == 504
    assert "within 2 s" in answer.json()["detail"]
    assert lane_length(redis, keys) == 0


def test_a_worker_that_goes_away(http: httpx.Client, worker: StandIn, redis: Redis, keys: Keys) -> None:
    def go_away(_: LaneRequest) -> None:
        worker.die()

    worker.answer = go_away
    answer = http.get("/generate", params={"prompt": "a"})
    assert answer.status_code == 503
    assert "went away" in answer.json()["detail"]
    assert lane_length(redis, keys) == 0


def test_while_another_worker_is_there_the_answer_is_waited_for(http: httpx.Client, worker: StandIn) -> None:
    """The one that was asked has gone; the other finds what that has left."""
    answer = worker.answer

    def go_away(request: LaneRequest) -> LaneAnswer | None:
        worker.die()
        time.sleep(1.2)  # longer than a waiting request goes without looking whether anybody is there
        return answer(request)

    worker.heartbeat(worker="follower", leader=False)
    worker.answer = go_away
    assert http.get("/generate", params={"prompt": "a"}).status_code == 200


def test_a_client_that_goes_away_is_not_waited_for(
    http: httpx.Client, worker: StandIn, redis: Redis, keys: Keys
) -> None:
    worker.answer = nothing
    with pytest.raises(httpx.ReadTimeout):
        http.get("/generate", params={"prompt": "a"}, timeout=0.3)
    assert lane_length(redis, keys) == 1
    until = time.monotonic() + 60
    while lane_length(redis, keys) and time.monotonic() < until:
        time.sleep(0.02)
    assert lane_length(redis, keys) == 0


def test_many_wait_at_once(http: httpx.Client, worker: StandIn) -> None:
    release = threading.Event()
    answer = worker.answer

    def hold(request: LaneRequest) -> LaneAnswer | None:
        release.wait(60)
        return answer(request)

    worker.answer = hold
    codes: list[int] = []

    def ask(number: int) -> None:
        codes.append(http.get("/generate", params={"prompt": f"prompt {number}"}).status_code)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    assert http.get("/revisions").status_code == 200
    release.set()
    for thread in threads:
        thread.join()
    assert codes == [200] * 50
