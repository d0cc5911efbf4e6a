"""How much one caller may ask for: so many requests a second, over all API processes, and so many at a time."""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address
from typing import Any

from redis.asyncio import Redis

from service.errors import ProblemError

BUCKETS = "palimpsest-access:bucket:"

# A token bucket as one number: the moment at which it is full again. KEYS: bucket; ARGV: seconds in which one token
# comes back, tokens that it holds. Returns the seconds to wait for a token, or nothing if one was taken.
_TAKE = """
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1e6
local each, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(now, tonumber(redis.call('GET', KEYS[1]) or 0)) + each
local wait = full - now - each * most
if wait > 1e-6 then return tostring(wait) end
redis.call('SET', KEYS[1], string.format('%.6f', full), 'PX', math.ceil((full - now) * 1000))
return ''
"""


class Limits:
    """What each caller may ask for. The rate is kept in Redis, what runs at this moment in this process.

    rate: requests a second; burst: requests at once after a pause; most: requests at a time, streams among them.
    """

    def __init__(self, redis: Redis, rate: float, burst: int, most: int) -> None:
        self._take: Any = redis.register_script(_TAKE)
        self._rate = rate
        self._burst = burst
        self._most = most
        self._running = Counter[str]()

    async def take(self, caller: str) -> None:
        """Count a request; a 429 problem that says when to come back, if it is one too many."""
        wait = await self._take(keys=[BUCKETS + caller], args=[1 / self._rate, self._burst])
        if wait:
            raise ProblemError(
                429,
                "rate-limited",
                f"The {caller} asks too often: {self._rate:g} requests a second are taken, {self._burst} at once after "
                "a pause (PALIMPSEST_RATE, PALIMPSEST_BURST). Wait as long as Retry-After says.",
                retry_after=max(1, math.ceil(float(wait))),
            )

    @contextmanager
    def held(self, caller: str) -> Iterator[None]:
        """Count a request as long as it runs; a 429 problem if too many of this caller's run already."""
        if self._running[caller] >= self._most:
            raise ProblemError(
                429,
                "too-many-at-once",
                f"{self._most} requests of the {caller} run already, open event streams among them, and more are not "
                "taken (PALIMPSEST_MAX_CONCURRENT). Let some end first.",
                retry_after=1,
            )
        self._running[caller] += 1
        try:
            yield
        finally:
            self._running[caller] -= 1
            if not self._running[caller]:
                del self._running[caller]


def network(address: str) -> str:
    """What counts as one address: of IPv6 the first 64 bits, since a single host has all the others."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or f"{IPv6Address(int(parsed) >> 64 << 64)}/64")
    return address
