"""Requests that nobody waits for any longer are known by their names, also those that have not been taken yet."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from service.keys import Keys
from tests.worker.lane_desk import SECONDS, Server, until
from worker.gone import REMEMBERED, Gone


@contextmanager
def _listening(redis: Any, keys: Keys, woken: threading.Event | None = None) -> Iterator[Gone]:
    """Already subscribed; what was named until then is among its ids."""
    gone = Gone(redis, keys, (woken or threading.Event()).set)
    gone.start()
    try:
        yield gone
    finally:
        gone.end()
        gone.join(SECONDS)
        assert not gone.is_alive()


def _subscribed(redis: Any, keys: Keys) -> None:
    until(lambda: redis.pubsub_numsub(keys.gone)[0][1] == 1)


def test_a_request_that_is_named_is_known_and_the_model_thread_woken(redis: Any, keys: Keys) -> None:
    woken = threading.Event()
    with _listening(redis, keys, woken) as gone:
        _subscribed(redis, keys)
        assert gone.ids == frozenset()
        assert not woken.is_set()
        redis.publish(keys.gone, "a")
        assert woken.wait(SECONDS)
        assert gone.ids == {"a"}
        redis.publish(keys.gone, "b")
        until(lambda: gone.ids == {"a", "b"})


def test_it_is_known_before_it_wakes(redis: Any, keys: Keys) -> None:
    """Else the model thread would look too early."""
    found: list[frozenset[str]] = []
    gone = Gone(redis, keys, lambda: found.append(gone.ids))
    gone.start()
    _subscribed(redis, keys)
    redis.publish(keys.gone, "a")
    until(lambda: found)
    gone.end()
    gone.join(SECONDS)
    assert found == [{"a"}]


def test_other_models_requests_are_not_heard(redis: Any, keys: Keys) -> None:
    with _listening(redis, keys) as gone:
        _subscribed(redis, keys)
        redis.publish(Keys("another-model").gone, "theirs")
        redis.publish(keys.gone, "ours")
        until(lambda: gone.ids)
        assert gone.ids == {"ours"}


def test_only_the_newest_are_remembered(redis: Any, keys: Keys) -> None:
    with _listening(redis, keys) as gone:
        _subscribed(redis, keys)
        for number in range(REMEMBERED + 10):
            redis.publish(keys.gone, str(number))
        until(lambda: str(REMEMBERED + 9) in gone.ids)
        assert gone.ids == {str(number) for number in range(10, REMEMBERED + 10)}


def test_it_listens_again_after_a_restart_of_redis(server: Server) -> None:
    """And forgets nothing by it."""
    with _listening(server.redis, server.keys) as gone:
        _subscribed(server.redis, server.keys)
        server.redis.publish(server.keys.gone, "before")
        until(lambda: gone.ids == {"before"})
        server.stop()
        server.start()
        _subscribed(server.redis, server.keys)
        server.redis.publish(server.keys.gone, "after")
        until(lambda: gone.ids == {"before", "after"})


def test_it_waits_for_a_redis_that_is_not_there_yet(server: Server) -> None:
    server.stop()
    with _listening(server.redis, server.keys) as gone:
        assert gone.ids == frozenset()
        server.start()
        _subscribed(server.redis, server.keys)
        server.redis.publish(server.keys.gone, "a")
        until(lambda: gone.ids == {"a"})


def test_it_ends_though_redis_is_away(server: Server) -> None:
    with _listening(server.redis, server.keys):
        _subscribed(server.redis, server.keys)
        server.stop()
    server.start()
