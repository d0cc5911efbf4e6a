"""The lease on a model: one worker holds it and leads, and only its holder may append to the ledger."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from service.keys import Keys
from worker.errors import LeaseLostError

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.2
"""How often a worker that waits looks whether the lease is free."""

_EXTEND = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Lease:
    """Taken by one worker, extended by its heartbeat, let go at its end. `token` fences every append."""

    def __init__(self, redis: Redis, keys: Keys, worker: str, seconds: float) -> None:
        self._redis: Any = redis
        self._key = keys.lease
        self._milliseconds = int(seconds * 1000)
        self.token = f"{redis.incr(keys.fence)}:{worker}"
        self._extend = redis.register_script(_EXTEND)
        self._release = redis.register_script(_RELEASE)
        self._released = False
        self._lock = threading.Lock()

    def acquire(self, waiting: Callable[[str], None]) -> None:
        """Wait until the lease is free and take it. Tells `waiting` who holds it, whenever that changes.

        A Redis that is away is waited for: how long, the heartbeat decides.
        """
        told = None
        while not self._taken():
            if (holder := self._holder()) not in (None, told):
                waiting(str(holder))
                told = holder
            time.sleep(RETRY_SECONDS)

    def take(self) -> bool:
        """Take the lease if it is free; returns whether this worker holds it now."""
        return bool(self._redis.set(self._key, self.token, nx=True, px=self._milliseconds))

    def extend(self) -> None:
        """Keep the lease; raises LeaseLostError if it has expired."""
        if not self._extend(keys=[self._key], args=[self.token, self._milliseconds]):
            raise LeaseLostError("This worker was silent too long and has lost its model to another.")

    def keep(self) -> None:
        """Extend it until it is released: the heart of a worker that ends beats on for a while."""
        with self._lock:
            if not self._released:
                self.extend()

    def release(self) -> None:
        """Let go, so that the next worker need not wait."""
        with self._lock:
            self._released = True
            try:
                self._release(keys=[self._key], args=[self.token])
            except RedisError:
                log.warning("could not release the lease; it expires by itself")

    def _taken(self) -> bool:
        try:
            return self.take()
        except RedisError as error:
            log.warning("Redis does not say whether the lease is free: %s", error)
            return False

    def _holder(self) -> str | None:
        try:
            holder: str | None = self._redis.get(self._key)
        except RedisError:
            return None
        return holder
