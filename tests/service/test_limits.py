"""Limits: what a caller may ask for, over all processes, and at the same time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from service.errors import ProblemError
from service.limits import Limits, network

SLOW = 0.001
"""Requests a second: during a test none comes back."""


def limited(url: str, ask: Callable[[list[Limits]], Coroutine[Any, Any, None]], processes: int = 1) -> None:
    async def run() -> None:
        clients = [AsyncRedis.from_url(url, decode_responses=True) for _ in range(processes)]
        try:
            await ask([Limits(client, SLOW, 3, 2) for client in clients])
        finally:
            for client in clients:
                await client.aclose()

    asyncio.run(run())


@pytest.mark.usefixtures("redis")
def test_processes_share_a_bucket_and_callers_do_not(valkey_url: str) -> None:
    async def ask(limits: list[Limits]) -> None:
        one, other = limits
        for process in (one, other, one):
            await process.take("key a")
        for process in limits:
            with pytest.raises(ProblemError) as refused:
                await process.take("key a")
            assert refused.value.problem.status == 429
            assert refused.value.retry_after is not None
            assert 900 < refused.value.retry_after <= 1000
            assert "PALIMPSEST_RATE" in refused.value.problem.detail
        await other.take("key b")

    limited(valkey_url, ask, processes=2)


def test_a_full_bucket_leaves_nothing_behind(redis: Redis, valkey_url: str) -> None:
    async def ask(limits: list[Limits]) -> None:
        await limits[0].take("key a")

    limited(valkey_url, ask)
    (bucket,) = redis.keys("palimpsest-access:bucket:*")
    assert 900_000 < int(redis.pttl(bucket)) <= 1_000_000


def test_what_runs_is_counted_until_it_ends(valkey_url: str) -> None:
    async def ask(limits: list[Limits]) -> None:
        held = limits[0].held
        with held("key a"), held("key a"):
            with pytest.raises(ProblemError, match="PALIMPSEST_MAX_CONCURRENT"), held("key a"):
                raise AssertionError
            with held("key b"):
                pass
        with pytest.raises(RuntimeError), held("key a"):
            raise RuntimeError
        with held("key a"), held("key a"):
            pass

    limited(valkey_url, ask)


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::1", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("unix socket", "unix socket"),
    ],
)
def test_what_counts_as_one_address(address: str, counted: str) -> None:
    assert network(address) == counted
