"""One worker holds a model's lease; one that has lost it can neither keep it nor take it from the next."""

import threading

import pytest
from redis import Redis

from service.keys import Keys
from worker.errors import LeaseLostError
from worker.lease import Lease


def test_tokens_differ_and_the_holder_keeps_it(redis: Redis, keys: Keys) -> None:
    first, second = Lease(redis, keys, "worker-1", 10), Lease(redis, keys, "worker-2", 10)
    assert first.token != second.token
    first.acquire(lambda _: None)
    first.extend()
    assert redis.get(keys.lease) == first.token


def test_the_next_one_waits_until_it_is_released(redis: Redis, keys: Keys) -> None:
    first, second = Lease(redis, keys, "worker-1", 10), Lease(redis, keys, "worker-2", 10)
    first.acquire(lambda _: None)
    holders: list[str] = []
    told = threading.Event()

    def waiting(holder: str) -> None:
        holders.append(holder)
        told.set()

    taking = threading.Thread(target=second.acquire, args=(waiting,))
    taking.start()
    assert told.wait(5)
    first.release()
    taking.join(timeout=5)
    assert holders == [first.token]
    assert redis.get(keys.lease) == second.token


def test_a_silent_holder_loses_it_for_good(redis: Redis, keys: Keys) -> None:
    first, second = Lease(redis, keys, "worker-1", 0.05), Lease(redis, keys, "worker-2", 10)
    first.acquire(lambda _: None)
    second.acquire(lambda _: None)
    with pytest.raises(LeaseLostError):
        first.extend()
    first.release()
    assert redis.get(keys.lease) == second.token
