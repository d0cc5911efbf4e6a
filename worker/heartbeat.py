"""The worker's signs of life: what it says of itself in Redis, and the thread that keeps saying it."""

import logging
import math
import os
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from service.contracts.model import ModelCard, WorkerState, WorkerStatus
from service.jobs import utcnow
from service.keys import Keys

log = logging.getLogger(__name__)


FORGOTTEN_SECONDS = 3600
"""After so long without a beat a worker's name is forgotten; its notice has expired long before."""


LONGEST_SECONDS = 1e9
"""Told of a step that will never end: JSON has no infinity."""


def machine() -> str:
    """What the names of all workers of this machine, or container, begin with."""
    return f"{os.uname().nodename}-"


class Board:
    """The worker's notices in Redis: who it is, what it does, whether it leads, which revision it serves.

    worker: a name that is new at every start; stalled_seconds: a step of the model thread that takes longer hangs.
    each_beat: what else is due at every beat, such as keeping the lease.
    """

    def __init__(self, redis: Redis, keys: Keys, seconds: float, stalled_seconds: float = math.inf) -> None:
        self.worker = f"{machine()}{os.getpid()}-{secrets.token_hex(4)}"
        self.each_beat: list[Callable[[], None]] = []
        self._redis: Any = redis
        self._keys = keys
        self._milliseconds = int(seconds * 1000)
        self._stalled_seconds = stalled_seconds
        self._since = utcnow()
        self._leader = False
        self._state = WorkerState.STARTING
        self._detail = ""
        self._revision: Callable[[], int | None] = lambda: None
        self._step_seconds: Callable[[], float] = lambda: 0.0

    def show(self, state: WorkerState, detail: str) -> None:
        """Say what the worker does now."""
        self._state, self._detail = state, detail
        self._write()

    def serving(self, revision: Callable[[], int | None], step_seconds: Callable[[], float] = lambda: 0.0) -> None:
        """Say that the worker is ready.

        revision: tells which one it serves; step_seconds: how long the present step of its model thread has taken.
        """
        self._revision, self._step_seconds = revision, step_seconds
        self.show(WorkerState.READY, "serving")

    def leading(self) -> None:
        """Say that the worker holds the lease; it does to its end."""
        self._leader = True
        self._write()

    def behind(self, why: str) -> None:
        """Say that the worker cannot reach the head, and why; once it can, why is empty."""
        if self._state is not WorkerState.STOPPING:
            self._state, self._detail = (WorkerState.BEHIND, why) if why else (WorkerState.READY, "serving")
            self.tell()

    def beat(self) -> None:
        """Do what is due, and say again what was said last."""
        for action in self.each_beat:
            action()
        self._write()

    def tell(self) -> None:
        """Say at once that something has changed; if Redis is away, the next beat says it."""
        try:
            self._write()
        except RedisError as error:
            log.warning("the worker's notice does not reach Redis: %s", error)

    def publish(self, card: ModelCard, tokenizer: str) -> None:
        """Put up the model's card and tokenizer; they stay when the worker goes."""
        self._redis.mset({self._keys.card: card.model_dump_json(), self._keys.tokenizer: tokenizer})

    def take_down(self) -> None:
        """The worker goes, and its notice with it."""
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.delete(self._keys.worker(self.worker))
        pipeline.zrem(self._keys.workers, self.worker)
        try:
            pipeline.execute()
        except RedisError:
            log.warning("could not take down the worker's notice; it expires by itself")

    def _write(self) -> None:
        state, detail, taken = self._state, self._detail, self._step_seconds()
        if taken > self._stalled_seconds and state in (WorkerState.READY, WorkerState.BEHIND):
            state, detail = WorkerState.STALLED, _stalled(taken)
        status = WorkerStatus(
            worker=self.worker,
            pid=os.getpid(),
            leader=self._leader,
            state=state,
            detail=detail,
            revision=self._revision(),
            step_seconds=round(min(taken, LONGEST_SECONDS), 3),
            since=self._since,
        )
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.set(self._keys.worker(self.worker), status.model_dump_json(), px=self._milliseconds)
        pipeline.zadd(self._keys.workers, {self.worker: time.time()})
        pipeline.zremrangebyscore(self._keys.workers, 0, time.time() - FORGOTTEN_SECONDS)
        pipeline.execute()


def _stalled(taken: float) -> str:
    if math.isinf(taken):
        return "the model thread has ended; the worker has to be started again"
    return f"a step has taken {taken:.0f} s; kill -USR1 {os.getpid()} writes into the worker's log where it is"


class Heartbeat(threading.Thread):
    """Calls `beat` every few seconds; after `patience` seconds without success notes the failure and ends.

    on_silence: called then.
    """

    def __init__(self, beat: Callable[[], None], every: float, patience: float, on_silence: Callable[[], None]) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._beat = beat
        self._every = every
        self._patience = patience
        self._on_silence = on_silence
        self._ended = threading.Event()
        self.failure: BaseException | None = None

    def end(self) -> None:
        """Stop beating."""
        self._ended.set()
        self.join(timeout=self._every)

    def run(self) -> None:
        """The thread's life."""
        last = time.monotonic()
        while not self._ended.wait(self._every):
            try:
                self._beat()
                last = time.monotonic()
            except RedisError as error:
                log.warning("the heartbeat does not reach Redis: %s", error)
                if time.monotonic() - last > self._patience:
                    self._give_up(error)
            except Exception as error:  # noqa: BLE001 - a worker without a heartbeat must end
                self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        self.failure = error
        self._ended.set()
        self._on_silence()
