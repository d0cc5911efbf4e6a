"""The generation stream's worker side loses nothing that somebody waits for, and serves nothing that nobody does."""

import time
from collections.abc import Callable

import pytest
from redis import Redis

from service.contracts.generate import GenerateRequest
from service.contracts.lane import LaneAnswer, LaneRequest
from service.contracts.revisions import RollbackRequest
from service.errors import ProblemError
from service.keys import Keys
from worker.lane import GROUP, Lane


@pytest.fixture
def open_lane(redis: Redis, keys: Keys) -> Callable[[str], Lane]:
    def opened(worker: str) -> Lane:
        lane = Lane(redis, keys, worker, lambda: None)
        lane.open()
        return lane

    return opened


def _ask(redis: Redis, keys: Keys, name: str, seconds: float = 60.0) -> LaneRequest:
    request = LaneRequest(id=name, body=GenerateRequest(prompt=("The city of",)), deadline=time.time() + seconds)
    redis.xadd(keys.lane, {"request": request.model_dump_json()})
    return request


def _read(lane: Lane) -> list[LaneRequest]:
    deadline = time.monotonic() + 10
    lane.start()
    taken: list[LaneRequest] = []
    while not taken and time.monotonic() < deadline:
        taken += lane.take()
        time.sleep(0.01)
    lane.end()
    lane.join(timeout=5)
    return taken + lane.take()


def test_a_request_is_taken_and_its_answer_sent(redis: Redis, keys: Keys, open_lane: Callable[[str], Lane]) -> None:
    lane = open_lane("worker-1")
    request = _ask(redis, keys, "a")
    assert _read(lane) == [request]
    problem = ProblemError(500, "out-of-luck", "Out of luck.").problem
    lane.answer(request, LaneAnswer(problem=problem))
    assert LaneAnswer.model_validate_json(str(redis.lpop(keys.answer("a")))).problem == problem
    assert redis.xlen(keys.lane) == 0


def test_what_a_dead_worker_had_taken_is_taken_over(redis: Redis, keys: Keys, open_lane: Callable[[str], Lane]) -> None:
    open_lane("dead")
    request = _ask(redis, keys, "a")
    redis.xreadgroup(GROUP, "dead", {keys.lane: ">"})
    assert open_lane("worker-2").take() == [request]


def test_nobody_waits_for_it_any_more(redis: Redis, keys: Keys, open_lane: Callable[[str], Lane]) -> None:
    lane = open_lane("worker-1")
    _ask(redis, keys, "late", seconds=-1)
    request = _ask(redis, keys, "a")
    assert _read(lane) == [request]
    lane.answer(request, LaneAnswer())
    assert redis.xlen(keys.lane) == 0
    assert not redis.exists(keys.answer("late"))


def test_what_is_no_request_is_dropped(redis: Redis, keys: Keys, open_lane: Callable[[str], Lane]) -> None:
    lane = open_lane("worker-1")
    redis.xadd(keys.lane, {"request": "{bad"})
    redis.xadd(keys.lane, {"other": "field"})
    request = LaneRequest(id="r", body=RollbackRequest(to=0), deadline=time.time() + 60)
    redis.xadd(keys.lane, {"request": request.model_dump_json()})
    assert _read(lane) == [request]
    lane.answer(request, LaneAnswer())
    assert redis.xlen(keys.lane) == 0
