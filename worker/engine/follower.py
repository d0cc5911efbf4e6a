"""Keeps a worker at the ledger's head, whoever moves it."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from service.errors import ProblemError, no_redis, revision_not_reached
from service.keys import Keys
from worker.engine.history import History
from worker.errors import CorruptStateError

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 10.0
"""How long a head that cannot be reached is tried again, before the worker ends: its blob may be on its way."""


class Follower(threading.Thread):
    """Watches the ledger and calls `wake` when the head moves; `catch_up` is for the model thread.

    behind: told why the head cannot be reached, and with "" that it is reached again.
    """

    def __init__(
        self,
        history: History,
        redis: Redis,
        keys: Keys,
        wake: Callable[[], None],
        behind: Callable[[str], None],
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        super().__init__(name="follower", daemon=True)
        self._history = history
        self._redis: Any = redis
        self._ledger = keys.ledger
        self._wake = wake
        self._behind = behind
        self._patience = patience
        self._seen = f"{history.resident.revision}-1"
        self._due = threading.Event()
        self._since: float | None = None
        self._ended = threading.Event()

    def catch_up(self, *, asked: bool) -> ProblemError | None:
        """Follow the ledger if somebody asks or it has grown; returns what to tell those who ask if that fails.

        What has failed for longer than the patience is raised.
        """
        if not (asked or self._due.is_set()):
            return None
        self._due.clear()
        patient = self._since is None or time.monotonic() - self._since <= self._patience
        try:
            self._history.follow(patient=patient)
        except RedisError as error:
            log.warning("Redis does not say where the head is: %s", error)
            self._due.set()
            return no_redis()
        except (CorruptStateError, ProblemError) as error:
            self._due.set()
            if not patient:
                raise
            return self._fallen_behind(error)
        if self._since is not None:
            self._since = None
            self._behind("")
        return None

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()

    def run(self) -> None:
        """The thread's life."""
        while not self._ended.is_set():
            try:
                news = self._redis.xread({self._ledger: self._seen}, block=1000)
            except RedisError as error:
                log.warning("the ledger does not answer: %s", error)
                self._ended.wait(1.0)
                continue
            for _, entries in news or ():
                self._seen = entries[-1][0]
                self._due.set()
            if self._due.is_set():
                self._wake()

    def _fallen_behind(self, error: Exception) -> ProblemError:
        if self._since is None:
            self._since = time.monotonic()
            log.warning("behind the head at r%d: %s", self._history.resident.revision, error)
            self._behind(str(error))
        return revision_not_reached(f"The worker cannot reach the head yet: {error} Try again.")
