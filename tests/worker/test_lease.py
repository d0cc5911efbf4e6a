"""One worker holds a model at a time, and what it writes is fenced."""

import threading
from typing import Any

import pytest
from redis import Redis

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
