"""How much one request may ask for, and how many may wait: beyond it everybody is refused at once, and told why."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from redis import Redis

from service.contracts.generate import Sampling
from service.contracts.lane import DecodeRequest, LaneRequest
from service.keys import Keys
from service.settings import Settings
from tests.service.asking import SECONDS, decode_of, lane_length, stopping_after, wait_until
from tests.service.conftest import MODEL, serve
from tests.service.stand_in import StandIn

WAITING, ROWS, TOKENS = 4, 8, 64


@pytest.fixture(scope="module")
def limited_url(valkey_url: str) -> Iterator[str]:
    """URL of an API with narrow limits."""
    settings = Settings(model=MODEL, port=0, redis_url=valkey_url)
    limits = {"max_waiting": WAITING, "max_rows": ROWS, "max_request_tokens": TOKENS}
    yield from serve(settings.model_copy(update=limits))


@pytest.fixture
def limited(limited_url: str, worker: StandIn) -> Iterator[httpx.Client]:
    """A client of it, with a worker."""
    with httpx.Client(base_url=limited_url, timeout=SECONDS) as client:
        assert client.get("/revisions").json()["revision"] == worker.ledger.head()
        yield client


@pytest.fixture
def ask_elsewhere(redis: Redis, keys: Keys, worker: StandIn) -> Callable[[], str]:
    """Lets another API process ask something that is not answered yet; returns the entry."""
    client: Any = redis
    answer = worker.answer
    worker.answer = lambda request: None if request.answers == keys.answers("elsewhere") else answer(request)
    body = DecodeRequest(prompts=("a",), revisions=("head",), sampling=Sampling(seed=1))

    def ask() -> str:
        request = LaneRequest(
            id=secrets.token_hex(8), body=body, deadline=time.time() + SECONDS, answers=keys.answers("elsewhere")
        )
        return str(client.xadd(keys.lane, {"request": request.model_dump_json()}))

    return ask


@pytest.mark.parametrize(
    ("asked", "field", "told"),
    [
        (
            {"prompt": ["a"] * 5, "max_new_tokens": 1},
            "prompt",
            "5 x 2 x 1 are 10 continuations (prompts x sides x n), at most 8",
        ),
        ({"prompt": ["a"] * 2, "n": 3, "max_new_tokens": 1}, "n", "2 x 2 x 3 are 12 continuations"),
        (
            {"messages": [{"role": "user", "content": "a"}] * 9, "n": 5, "max_new_tokens": 1},
            "n",
            "1 x 2 x 5 are 10 continuations",
        ),
        (
            {"prompt": ["a"] * 2, "max_new_tokens": 17},
            "max_new_tokens",
            "4 continuations of 17 are 68 tokens, at most 64",
        ),
    ],
)
def test_too_much_for_one_request(
    limited: httpx.Client, worker: StandIn, asked: dict[str, Any], field: str, told: str
) -> None:
    worker.publish(chat=True)
    answer = limited.post("/generate", json=asked)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field
    assert told in answer.json()["detail"]
    assert "ask for fewer" in answer.json()["detail"]
    assert worker.asked == []


@pytest.mark.parametrize(
    "asked",
    [
        {"prompt": ["a"] * 4, "max_new_tokens": 8},
        {"prompt": ["a"] * 2, "n": 2, "max_new_tokens": 8},
        {"messages": [{"role": "user", "content": "a"}] * 9, "n": 4, "max_new_tokens": 8},
    ],
)
def test_as_much_as_one_request_may_ask(limited: httpx.Client, worker: StandIn, asked: dict[str, Any]) -> None:
    worker.publish(chat=True)
    assert limited.post("/generate", json=asked).status_code == 200
    assert len(worker.asked) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_full_queue(
    limited: httpx.Client,
    worker: StandIn,
    redis: Redis,
    keys: Keys,
    ask_elsewhere: Callable[[], str],
    stream: bool,
) -> None:
    entries = [ask_elsewhere() for _ in range(WAITING)]
    full = limited.post("/generate", json={"prompt": ["a"], "stream": stream})
    assert full.status_code == 503
    assert full.headers["Retry-After"] == "2"
    assert full.json()["type"].endswith(":queue-full")
    assert "wait already, and at most 4 of interactive priority may" in full.json()["detail"]
    assert lane_length(redis, keys) == WAITING
    client: Any = redis
    client.xdel(keys.lane, entries[1])
    assert limited.post("/generate", json={"prompt": ["a"], "stream": stream}).status_code == 200
    assert worker.gone == []


def test_the_background_leaves_half_to_people(
    limited: httpx.Client, worker: StandIn, ask_elsewhere: Callable[[], str]
) -> None:
    background = {"prompt": "a", "priority": "background"}
    ask_elsewhere()
    assert limited.get("/generate", params=background).status_code == 200
    ask_elsewhere()
    refused = limited.get("/generate", params=background)
    assert refused.status_code == 503
    assert "wait already, and at most 2 of background priority may" in refused.json()["detail"]
    assert limited.get("/generate", params={"prompt": "a"}).status_code == 200
    assert decode_of(worker, 1).priority == "background"


def test_never_more_than_that_wait_however_many_ask_at_once(
    limited: httpx.Client, worker: StandIn, redis: Redis, keys: Keys, release: threading.Event
) -> None:
    worker.answer = stopping_after(worker, 0, release)
    codes: list[int] = []

    def ask() -> None:
        codes.append(limited.get("/generate", params={"prompt": "a"}).status_code)

    threads = [threading.Thread(target=ask) for _ in range(5 * WAITING)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(codes) == 4 * WAITING)
    assert set(codes) == {503}
    assert lane_length(redis, keys) == WAITING
    release.set()
    for thread in threads:
        thread.join(SECONDS)
    assert sorted(codes) == [200] * WAITING + [503] * 4 * WAITING
