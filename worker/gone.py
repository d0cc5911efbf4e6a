"""Hears of requests that nobody waits for any longer."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from service.keys import Keys

log = logging.getLogger(__name__)

REMEMBERED = 1000
"""Requests that are remembered: one may be named before it has been taken from its stream."""

RETRY_SECONDS = 1.0
"""How long Redis is left alone after it has failed. What is named meanwhile ends by itself, or at its deadline."""


class Gone(threading.Thread):
    """Listens to the channel on which such requests are named, and calls `wake`; `ids` is for the model thread."""

    def __init__(self, redis: Redis, keys: Keys, wake: Callable[[], None]) -> None:
        super().__init__(name="gone", daemon=True)
        self._redis: Any = redis
        self._channel = keys.gone
        self._wake = wake
        self._named: deque[str] = deque(maxlen=REMEMBERED)
        self._ended = threading.Event()

    @property
    def ids(self) -> frozenset[str]:
        """The requests that were named last."""
        return frozenset(self._named.copy())

    def end(self) -> None:
        """Stop listening."""
        self._ended.set()

    def run(self) -> None:
        """The thread's life."""
        while not self._ended.is_set():
            try:
                self._listen()
            except RedisError as error:
                log.warning("the channel %s does not answer: %s", self._channel, error)
                self._ended.wait(RETRY_SECONDS)

    def _listen(self) -> None:
        with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
            channel.subscribe(self._channel)
            while not self._ended.is_set():
                message = channel.get_message(timeout=1.0)
                if message is not None:
                    self._named.append(message["data"])
                    self._wake()
