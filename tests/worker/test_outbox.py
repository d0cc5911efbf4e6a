"""Answers and receipts go out in their order, once Redis takes them, as long as anybody waits."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from service.contracts.lane import LaneAnswer
from tests.worker.lane_desk import SECONDS, Server, answers_in, decoded, pieces, request_of, started, until
from worker.outbox import ANSWERS_SECONDS, MOST_ANSWERS, MOST_AT_ONCE, Outbox, Receipt

STREAM, GROUP = "requests", "workers"


@contextmanager
def _running(outbox: Outbox) -> Iterator[Outbox]:
    outbox.start()
    try:
        yield outbox
    finally:
        outbox.end()
        outbox.join(SECONDS)
        assert not outbox.is_alive()


@pytest.fixture
def outbox(redis: Redis) -> Iterator[Outbox]:
    with _running(Outbox(redis)) as opened:
        yield opened


def _taken(redis: Any, count: int = 1) -> list[str]:
    """Entries that a worker has taken from a stream."""
    redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    entries = [redis.xadd(STREAM, {"request": "r"}) for _ in range(count)]
    redis.xreadgroup(GROUP, "w", {STREAM: ">"})
    return entries


def _left(redis: Any) -> tuple[int, int]:
    return redis.xlen(STREAM), redis.xpending(STREAM, GROUP)["pending"]


def test_answers_come_in_their_order(outbox: Outbox, redis: Any) -> None:
    sent = [started("a"), started("b"), pieces("a", "x"), pieces("b", "y"), pieces("a", "z"), decoded("a")]
    for answer in sent:
        outbox.send(request_of(answer.id), answer)
    until(lambda: len(answers_in(redis)) == len(sent))
    assert answers_in(redis) == sent


def test_everybody_is_answered_where_they_read(outbox: Outbox, redis: Any) -> None:
    for name in ("one", "two"):
        outbox.send(request_of(name, answers=f"of {name}"), decoded(name))
    for name in ("one", "two"):
        until(lambda name=name: answers_in(redis, f"of {name}"))  # type: ignore[misc]
        assert answers_in(redis, f"of {name}") == [decoded(name)]
        assert 0 < redis.ttl(f"of {name}") <= ANSWERS_SECONDS


def test_what_nobody_reads_expires_and_does_not_grow_without_bound(outbox: Outbox, redis: Any) -> None:
    request = request_of("a")
    for number in range(MOST_ANSWERS + 2000):
        outbox.send(request, pieces("a", str(number)))
    outbox.send(request, decoded("a"))
    until(lambda: answers_in(redis)[-1:] == [decoded("a")])
    assert redis.xlen("answers") < MOST_ANSWERS + 1000
    assert 0 < redis.ttl("answers") <= ANSWERS_SECONDS


def test_an_entry_is_done_with_after_what_was_sent_before(redis: Any) -> None:
    """Acknowledged and deleted; never before its answer is there."""
    entries = _taken(redis, 3)
    with _running(Outbox(redis)) as outbox:
        for number, entry in enumerate(entries[:2]):
            outbox.send(request_of(str(number)), decoded(str(number)))
            outbox.done(Receipt(STREAM, GROUP, entry))
        until(lambda: _left(redis) == (1, 1), lambda: _left(redis))
        assert len(answers_in(redis)) == 2
    assert redis.xrange(STREAM)[0][0] == entries[2]


def test_at_the_end_all_that_waits_is_sent(redis: Any) -> None:
    outbox, (entry,) = Outbox(redis), _taken(redis)
    sent = [pieces("a", str(number)) for number in range(2 * MOST_AT_ONCE + 50)]
    for answer in sent:
        outbox.send(request_of("a"), answer)
    outbox.done(Receipt(STREAM, GROUP, entry))
    outbox.end()
    outbox.start()
    outbox.join(SECONDS)
    assert not outbox.is_alive()
    assert answers_in(redis) == sent
    assert _left(redis) == (0, 0)


def test_one_answer_that_cannot_be_taken_is_not_in_the_way(outbox: Outbox, redis: Any) -> None:
    """Nor are the others sent twice."""
    redis.set("no stream", "a text")
    for number in range(3):
        outbox.send(request_of("odd", answers="no stream"), decoded("odd"))
        outbox.send(request_of(str(number)), decoded(str(number)))
    outbox.done(Receipt("no stream", GROUP, "1-1"))
    outbox.send(request_of("last"), decoded("last"))
    until(lambda: answers_in(redis)[-1:] == [decoded("last")])
    outbox.send(request_of("after"), decoded("after"))
    until(lambda: answers_in(redis)[-1:] == [decoded("after")])
    assert [answer.id for answer in answers_in(redis)] == ["0", "1", "2", "last", "after"]


def test_what_has_arrived_without_a_word_of_it_does_not_arrive_twice(redis: Any, monkeypatch: Any) -> None:
    """As when the connection breaks between a command and its reply."""
    outbox, (entry,) = Outbox(redis), _taken(redis)
    send, calls = outbox._send, list[int]()

    def lossy(**options: Any) -> Any:
        calls.append(1)
        result = send(**options)
        if len(calls) == 1:
            raise RedisConnectionError("the reply was lost")
        return result

    monkeypatch.setattr(outbox, "_send", lossy)
    sent = [pieces("a", "x"), pieces("a", "y"), decoded("a")]
    for answer in sent:
        outbox.send(request_of("a"), answer)
    outbox.done(Receipt(STREAM, GROUP, entry))
    with _running(outbox):
        until(lambda: len(calls) > 1)
        outbox.send(request_of("b"), decoded("b"))
        until(lambda: answers_in(redis)[-1:] == [decoded("b")])
    assert answers_in(redis) == [*sent, decoded("b")]
    assert _left(redis) == (0, 0)


def _failed(caplog: pytest.LogCaptureFixture) -> None:
    until(lambda: "Redis does not take" in caplog.text)


def test_what_is_wanted_is_delivered_once_redis_is_back(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """In order, receipts among it; what is past its deadline by then is dropped."""
    (entry,), outbox = _taken(server.redis), Outbox(server.redis)
    server.stop()
    sent: list[LaneAnswer] = [started("a"), pieces("a", "x"), started("b"), pieces("a", "y"), decoded("a")]
    for answer in sent:
        outbox.send(request_of(answer.id), answer)
        outbox.send(request_of("late", seconds=-1), pieces("late"))
    outbox.done(Receipt(STREAM, GROUP, entry))
    with _running(outbox):
        _failed(caplog)
        outbox.send(request_of("b"), decoded("b"))
        server.start()
        until(lambda: len(answers_in(server.redis)) > len(sent), lambda: answers_in(server.redis))
        assert answers_in(server.redis) == [*sent, decoded("b")]
        assert _left(server.redis) == (0, 0)


def test_a_redis_that_is_out_of_memory_is_tried_again(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.redis.config_set("maxmemory", 1)
    with _running(Outbox(server.redis)) as outbox:
        outbox.send(request_of("a"), decoded("a"))
        _failed(caplog)
        assert answers_in(server.redis) == []
        server.redis.config_set("maxmemory", 0)
        until(lambda: answers_in(server.redis) == [decoded("a")])


@pytest.mark.parametrize("tried", [False, True])
def test_it_ends_though_redis_does_not_answer(server: Server, caplog: pytest.LogCaptureFixture, tried: bool) -> None:
    outbox = Outbox(server.redis)
    server.stop()
    outbox.send(request_of("a"), decoded("a"))
    if not tried:
        outbox.end()
    with _running(outbox):
        _failed(caplog)
    server.start()
