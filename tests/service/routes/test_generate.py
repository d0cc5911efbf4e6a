"""Generation over HTTP: what is asked through the stream, and what a client is told when nobody answers."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from redis import Redis

from service.contracts.generate import Sampling
from service.contracts.lane import LaneAnswer, LaneRequest
from service.contracts.model import WorkerState
from service.contracts.revisions import RevisionKind
from service.errors import invalid
from service.keys import Keys
from tests.service.asking import body_of, decode_of, lane_length, wait_until
from tests.service.stand_in import CONTEXT, StandIn

Contents = Callable[[], dict[str, bytes | None]]


def nothing(_: LaneRequest) -> None:
    return None


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
    asked = decode_of(worker)
    assert (asked.prompts, asked.revisions, asked.sampling.max_new_tokens) == (("one", "two"), ("base", 1), 4)
    assert (asked.stream, asked.priority, asked.client) == (False, "interactive", "127.0.0.1")
    assert lane_length(redis, keys) == 0
    assert worker.gone == []


def test_post_takes_the_same_as_json(http: httpx.Client, worker: StandIn) -> None:
    sampling: dict[str, Any] = {
        "temperature": 0.5,
        "top_k": 3,
        "repetition_penalty": 1.5,
        "stop": [" "],
        "seed": 7,
        "top_logprobs": 2,
    }
    answer = http.post("/generate", json={"prompt": ["one"], "before": 0, "priority": "background", **sampling})
    assert answer.status_code == 200
    assert answer.json()["seed"] == 7
    asked = decode_of(worker)
    assert asked.sampling == Sampling.model_validate(sampling)
    assert asked.priority == "background"
    query = http.get("/generate", params={"prompt": "one", "before": 0, **sampling})
    assert query.json() == answer.json()
    assert decode_of(worker, 1).sampling == asked.sampling


def test_a_seed_is_drawn_and_told(http: httpx.Client, worker: StandIn) -> None:
    seeds = [http.get("/generate", params={"prompt": "one"}).json()["seed"] for _ in range(3)]
    assert len(set(seeds)) == 3
    assert [decode_of(worker, number).sampling.seed for number in range(3)] == seeds
    assert all(json.loads(str(float(seed))) == seed for seed in seeds), "a float has room for it"


def test_alternatives_of_every_prompt(http: httpx.Client, worker: StandIn) -> None:
    worker.append(RevisionKind.ROLLBACK, to=0)
    results = http.get("/generate", params={"prompt": ["one", "two"], "n": 2}).json()["results"]
    assert [(result["prompt"], result["alternative"]) for result in results] == [
        *(("one", 0), ("one", 1)),
        *(("two", 0), ("two", 1)),
    ]
    assert [(result["before"]["text"], result["after"]["text"]) for result in results] == [
        *((" at base", " at head"), (" at base 1", " at head 1")),
        *((" at base", " at head"), (" at base 1", " at head 1")),
    ]
    assert {result["parts_at"] for result in results} == {1}
    assert {(result["before"]["revision"], result["after"]["revision"]) for result in results} == {(0, 1)}


def test_how_likely_targets_are_on_both_sides(http: httpx.Client, worker: StandIn) -> None:
    def answer(request: LaneRequest) -> LaneAnswer:
        decoded = worker.decoded(body_of(request))
        numbers = tuple(number / 8 for number in range(len(decoded.probabilities)))
        return LaneAnswer(id=request.id, decoded=decoded.model_copy(update={"probabilities": numbers}))

    worker.answer = answer
    params = {"prompt": ["one", "two"], "target_new": "Rome", "target_true": "Paris"}
    first, second = http.get("/generate", params=params).json()["results"]
    assert decode_of(worker).targets == ("Rome", "Paris")
    assert (first["target_new"], first["target_true"]) == (
        *({"before": 0.0, "after": 0.25}, {"before": 0.125, "after": 0.375}),
    )
    assert second["target_true"] == {"before": 0.625, "after": 0.875}
    only = http.get("/generate", params={"prompt": "one", "target_true": "Paris"}).json()["results"][0]
    assert (only["target_new"], only["target_true"]) == (None, {"before": 0.0, "after": 0.125})


def test_a_conversation(http: httpx.Client, worker: StandIn) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is the Eiffel Tower?"}]
    refused = http.post("/generate", json={"messages": messages})
    assert refused.status_code == 422
    assert refused.json()["type"].endswith(":no-chat-template")
    assert "send a prompt" in refused.json()["detail"]
    worker.publish(chat=True)
    answer = http.post("/generate", json={"messages": messages})
    assert answer.status_code == 200
    assert [turn.model_dump() for turn in decode_of(worker).messages] == messages
    (result,) = answer.json()["results"]
    assert result["prompt"] == "<system> Be brief. <user> Where is the Eiffel Tower?"


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
        ({"prompt": ["a"] * 65}, "prompt"),
        ({"prompt": "a", "before": "yesterday"}, "before"),
        ({"prompt": "a", "max_new_tokens": "many"}, "max_new_tokens"),
        ({"prompt": "a", "max_new_tokens": 0}, "max_new_tokens"),
        ({"prompt": "a", "temperature": "nan"}, "temperature"),
        ({"prompt": "a", "top_p": 0}, "top_p"),
        ({"prompt": "a", "seed": -1}, "seed"),
        ({"prompt": "a", "temprature": 1}, "temprature"),
        ({"prompt": "a", "n": 17}, "n"),
        ({"prompt": "a", "stop": [""]}, "stop[0]"),
        ({"prompt": "a", "priority": "urgent"}, "priority"),
        ({"prompt": "a", "timeout": 0}, "timeout"),
        ({"prompt": "a", "messages": "a"}, "messages"),
        ({"prompt": "a", "target_new": "b " * CONTEXT}, "prompt[0]"),
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
    problem = invalid("prompt[0]", "is odd; straighten it").problem
    worker.answer = lambda request: LaneAnswer(id=request.id, problem=problem)
    answer = http.get("/generate", params={"prompt": "a"})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"field": "prompt[0]", "detail": "is odd; straighten it"}]
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]


def test_a_worker_that_does_not_answer(http: httpx.Client, worker: StandIn, redis: Redis, keys: Keys) -> None:
    worker.answer = nothing
    answer = http.get("/generate", params={"prompt": "a"})
    assert answer.status_code == 504
    assert "within 2 s" in answer.json()["detail"]
    assert "Ask for less" in answer.json()["detail"]
    assert lane_length(redis, keys) == 0
    wait_until(lambda: worker.gone == [worker.asked[0].id])


@pytest.mark.parametrize(("timeout", "told"), [(0.1, "within 0.1 s"), (1000, "within 2 s")])
def test_a_deadline_of_ones_own(http: httpx.Client, worker: StandIn, timeout: float, told: str) -> None:
    worker.answer = nothing
    answer = http.get("/generate", params={"prompt": "a", "timeout": timeout})
    assert answer.status_code == 504
    assert told in answer.json()["detail"]


def test_a_worker_that_answers_something_else(http: httpx.Client, worker: StandIn) -> None:
    worker.answer = lambda request: LaneAnswer(id=request.id, revision=worker.ledger.revision(0))
    answer = http.get("/generate", params={"prompt": "a"})
    assert answer.status_code == 502
    assert "Is it up to date?" in answer.json()["detail"]


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

    def go_away(request: LaneRequest) -> list[LaneAnswer]:
        worker.die()
        time.sleep(1.2)  # longer than a waiting request goes without looking whether anybody is there
        return worker.answers(request)

    worker.heartbeat(worker="follower", leader=False)
    worker.answer = go_away
    assert http.get("/generate", params={"prompt": "a"}).status_code == 200


def test_many_wait_at_once(http: httpx.Client, worker: StandIn) -> None:
    release = threading.Event()

    def hold(request: LaneRequest) -> list[LaneAnswer]:
        release.wait(60)
        return worker.answers(request)

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
