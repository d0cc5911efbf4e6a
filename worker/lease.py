"""The lease on a model: one worker holds it, and only its holder may append to the ledger."""

import logging
import time
from collections.abc import Callable
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from service.keys import Keys
from worker.errors import LeaseLostError

log = logging.getLogger(__name__)

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

    def acquire(self, waiting: Callable[[str], None]) -> None:
        """Wait until the lease is free and take it. Tells `waiting` once who holds it."""
        told = False
        while not self._redis.set(self._key, self.token, nx=True, px=self._milliseconds):
            if not told:
                waiting(str(self._redis.get(self._key)))
                told = True
            time.sleep(0.2)

    def extend(self) -> None:
        """Keep the lease; raises LeaseLostError if it has expired."""
        if not self._extend(keys=[self._key], args=[self.token, self._milliseconds]):
            raise LeaseLostError("This worker was silent too long and has lost its model to another.")

    def release(self) -> None:
        """Let go, so that the next worker need not wait."""
        try:
            self._release(keys=[self._key], args=[self.token])
        except RedisError:
            log.warning("could not release the lease; it expires by itself")
