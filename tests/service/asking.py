"""What tests of generation ask again and again."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from redis import Redis

from service.contracts.lane import DecodeRequest, LaneAnswer, LaneRequest
from service.keys import Keys
from tests.service.stand_in import StandIn

SECONDS = 60
"""How long anything may take that is waited for."""

Answers = Iterator[LaneAnswer]


def lane_length(redis: Redis, keys: Keys) -> int:
    """Generations that wait or are being answered."""
    client: Any = redis
    return int(client.xlen(keys.lane))


def body_of(request: LaneRequest) -> DecodeRequest:
    """What a generation asks."""
    assert isinstance(request.body, DecodeRequest)
    return request.body


def decode_of(worker: StandIn, number: int = 0) -> DecodeRequest:
    """What the number-th request asked of the worker."""
    return body_of(worker.asked[number])


def wait_until(holds: Callable[[], bool]) -> None:
    """Look again and again until it holds."""
    until = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < until, "it never came to hold"
        time.sleep(0.005)


def stopping_after(worker: StandIn, answers: int, release: threading.Event) -> Callable[[LaneRequest], Answers]:
    """A worker that sends so many answers, and the others only when it is released."""

    def answer(request: LaneRequest) -> Answers:
        usual = worker.answers(request)
        yield from usual[:answers]
        release.wait(SECONDS)
        yield from usual[answers:]

    return answer
