"""A stream's worker side: every request is answered, or dropped when nobody waits any longer, whoever dies."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from redis import Redis

from service.contracts.lane import LaneAnswer, LaneRequest
from service.contracts.revisions import RollbackRequest
from service.errors import invalid
from service.keys import Keys
from tests.worker.lane_desk import SECONDS, Server, answers_in, decoded, pieces, request_of, started, until
from worker.lane import GROUP, Lane
from worker.outbox import ANSWERS_SECONDS, Outbox


class Counter:
    """A lane whose model thread is the test; its outbox sends from the beginning."""

    def __init__(self, redis: Redis, keys: Keys, worker: str = "w1") -> None:
        self.woken = threading.Event()
        self.name = worker
        self.redis: Any = redis
        self.keys = keys
        self.outbox = Outbox(redis)
        self.lane = Lane(redis, keys, keys.lane, worker, self.woken.set, self.outbox)
        self.outbox.start()

    def start(self) -> None:
        """Open the lane, and read."""
        self.lane.open()
        self.lane.start()

    def send(self, *requests: LaneRequest) -> None:
        for request in requests:
            self.redis.xadd(self.keys.lane, {"request": request.model_dump_json()})

    def taken(self, count: int) -> list[LaneRequest]:
        """Waits until so many requests have been handed out."""
        seen: list[LaneRequest] = []

        def come() -> bool:
            self.woken.wait(0.05)
            self.woken.clear()
            seen.extend(self.lane.take())
            return len(seen) >= count

        until(come, lambda: f"{len(seen)} of {count} requests came")
        return seen

    def left(self) -> tuple[int, int]:
        """Entries in the stream, and those that are taken and not acknowledged."""
        return self.redis.xlen(self.keys.lane), self.redis.xpending(self.keys.lane, GROUP)["pending"]

    def until_left(self, expected: tuple[int, int]) -> None:
        until(lambda: self.left() == expected, self.left)

    def stop_reading(self) -> None:
        self.lane.end()
        if self.lane.ident is not None:
            self.lane.join(SECONDS)
            assert not self.lane.is_alive()

    def close(self) -> None:
        """Stop reading; what is to be sent is sent."""
        self.stop_reading()
        self.outbox.end()
        self.outbox.join(SECONDS)
        assert not self.outbox.is_alive()


Hire = Callable[[str], Counter]


@pytest.fixture
def hire(redis: Redis, keys: Keys) -> Iterator[Hire]:
    """Makes lanes of workers with these names, on the tests' Valkey, that do not read yet."""
    made: list[Counter] = []

    def hire(name: str) -> Counter:
        made.append(Counter(redis, keys, name))
        return made[-1]

    yield hire
    for counter in made:
        counter.close()


@pytest.fixture
def counter(hire: Hire) -> Counter:
    """A lane that reads."""
    made = hire("w1")
    made.start()
    return made


def test_requests_are_handed_out_in_order_and_answered(counter: Counter) -> None:
    sent = [request_of(str(number)) for number in range(3)]
    counter.send(*sent)
    taken = counter.taken(3)
    assert taken == sent
    assert counter.left() == (3, 3)
    for request in taken:
        counter.lane.answer(request, decoded(request.id))
    counter.until_left((0, 0))
    assert answers_in(counter.redis) == [decoded(str(number)) for number in range(3)]
    assert 0 < counter.redis.ttl("answers") <= ANSWERS_SECONDS
    assert counter.lane.take() == []


def test_a_request_is_done_with_after_its_last_answer_only(counter: Counter) -> None:
    """So that another worker answers it from the beginning if this one dies in between."""
    counter.send(request_of("a"), request_of("b", answers="theirs"))
    first, second = counter.taken(2)
    for answer in (started("a"), pieces("a", "x"), pieces("a", "y")):
        counter.lane.answer(first, answer)
    counter.lane.answer(second, started("b"))
    until(lambda: answers_in(counter.redis, "theirs"))
    assert counter.left() == (2, 2)
    counter.lane.answer(first, pieces("a", "z"))
    counter.lane.answer(first, decoded("a"))
    counter.until_left((1, 1))
    assert answers_in(counter.redis) == [started("a"), *(pieces("a", text) for text in "xyz"), decoded("a")]
    counter.lane.answer(second, LaneAnswer(id="b", problem=invalid("prompt", "is odd").problem))
    counter.until_left((0, 0))
    assert [answer.last for answer in answers_in(counter.redis, "theirs")] == [False, True]


def test_a_request_that_nobody_waits_for_any_longer_is_done_with_and_not_answered(counter: Counter) -> None:
    counter.send(request_of("gone"), request_of("half"))
    gone, half = counter.taken(2)
    counter.lane.answer(half, started("half"))
    for request in (gone, half):
        counter.lane.answer(request, None)
    counter.until_left((0, 0))
    assert answers_in(counter.redis) == [started("half")]


def test_a_rollback_goes_the_same_way(counter: Counter) -> None:
    request = request_of("r").model_copy(update={"body": RollbackRequest(to=0)})
    counter.send(request)
    assert counter.taken(1) == [request]


def test_all_that_wait_are_handed_out_together(counter: Counter) -> None:
    """So that they are decoded together."""
    sent = [request_of(str(number)) for number in range(150)]
    counter.send(*sent)
    counter.until_left((150, 150))
    assert counter.woken.is_set()
    assert counter.taken(150) == sent


def test_what_nobody_waits_for_any_longer_is_dropped(counter: Counter) -> None:
    counter.send(request_of("late", seconds=-1), request_of("in time"))
    assert [request.id for request in counter.taken(1)] == ["in time"]
    counter.until_left((1, 1))
    assert answers_in(counter.redis) == []


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
    counter.send(request_of("good"))
    assert [request.id for request in counter.taken(1)] == ["good"]
    counter.until_left((1, 1))


def test_what_a_dead_worker_had_taken_is_taken_over(hire: Hire) -> None:
    dead = hire("dead")
    dead.start()
    dead.send(*[request_of(f"old {number}") for number in range(150)])
    dead.until_left((150, 150))
    dead.stop_reading()
    living = hire("living")
    living.send(request_of("new"))
    living.start()
    taken = living.taken(151)
    assert [request.id for request in taken] == [*(f"old {number}" for number in range(150)), "new"]
    for request in taken:
        living.lane.answer(request, decoded(request.id))
    living.until_left((0, 0))


def test_what_a_worker_takes_with_it_into_death_is_taken_over_while_others_run(counter: Counter, hire: Hire) -> None:
    """And what is in a living worker's hands stays there."""
    others = [hire(name) for name in ("living", "dying")]
    counter.stop_reading()
    for other, name in zip(others, ("first", "second"), strict=True):
        other.redis.set(other.keys.worker(other.name), "a heartbeat")
        other.start()
        other.send(request_of(name))
        assert [request.id for request in other.taken(1)] == [name]
        other.stop_reading()
    heir = hire("heir")
    heir.start()
    counter.redis.delete(counter.keys.worker("dying"))
    (request,) = heir.taken(1)
    assert request.id == "second"
    heir.lane.answer(request, decoded(request.id))
    heir.until_left((1, 1))
    assert heir.lane.take() == []


def test_workers_share_a_stream(counter: Counter, hire: Hire) -> None:
    other = hire("w2")
    for one in (counter, other):
        one.redis.set(one.keys.worker(one.name), "a heartbeat")
    other.start()
    counter.send(*[request_of(str(number)) for number in range(100)])
    counter.until_left((100, 100))
    other.stop_reading()
    counter.stop_reading()
    taken = [request.id for one in (counter, other) for _ in range(100) for request in one.lane.take()]
    assert sorted(taken, key=int) == [str(number) for number in range(100)]


def test_a_dead_worker_is_forgotten_once_it_has_left_nothing(hire: Hire) -> None:
    dead = hire("dead")
    dead.start()
    dead.send(request_of("old"))
    dead.until_left((1, 1))
    dead.stop_reading()
    living = hire("living")
    for _ in range(2):
        living.lane.open()
    assert [consumer["name"] for consumer in living.redis.xinfo_consumers(living.keys.lane, GROUP)] == ["living"]
    assert [request.id for request in living.taken(1)] == ["old"]


def test_a_request_that_comes_back_from_another_worker_does_no_harm(counter: Counter) -> None:
    """As after a long silence: another has taken it over, and died with it in its turn."""
    counter.send(request_of("again"))
    (request,) = counter.taken(1)
    (pending,) = counter.redis.xpending_range(counter.keys.lane, GROUP, "-", "+", 1)
    counter.redis.xclaim(counter.keys.lane, GROUP, "dead", 0, [pending["message_id"]])
    assert counter.taken(1) == [request]
    for _ in range(2):
        counter.lane.answer(request, decoded(request.id))
    counter.until_left((0, 0))


def test_a_request_that_its_client_took_back_is_not_in_the_way(counter: Counter) -> None:
    """The API removes the entry of a client that has gone; the answer then meets nobody."""
    counter.send(request_of("gone"))
    (request,) = counter.taken(1)
    counter.redis.xtrim(counter.keys.lane, maxlen=0)
    counter.lane.answer(request, decoded(request.id))
    until(lambda: answers_in(counter.redis))
    counter.until_left((0, 0))


def test_a_stream_that_was_lost_is_made_again(counter: Counter) -> None:
    counter.redis.delete(counter.keys.lane)
    until(lambda: counter.redis.exists(counter.keys.lane))
    counter.send(request_of("after"))
    assert [request.id for request in counter.taken(1)] == ["after"]


def test_opening_twice_does_no_harm(hire: Hire) -> None:
    first, second = hire("w1"), hire("w1")
    first.lane.open()
    second.send(request_of("waiting"))
    second.start()
    assert [request.id for request in second.taken(1)] == ["waiting"]


def test_a_redis_that_is_away_for_a_moment(server: Server) -> None:
    """What was taken before is answered after, and what comes then is taken."""
    with closing(Counter(server.redis, server.keys)) as counter:
        counter.start()
        counter.send(request_of("before"))
        (request,) = counter.taken(1)
        server.stop()
        counter.lane.answer(request, decoded("before"))
        server.start()
        until(lambda: answers_in(server.redis) == [decoded("before")])
        counter.send(request_of("after"))
        assert [request.id for request in counter.taken(1)] == ["after"]
        counter.until_left((1, 1))
