"""The generation stream's worker side: a thread takes requests from Redis, the model thread answers them."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from service.contracts.lane import LaneAnswer, LaneRequest
from service.keys import Keys

log = logging.getLogger(__name__)

GROUP = "workers"
ANSWER_SECONDS = 60
"""How long an answer waits to be fetched."""

MOST_AT_ONCE = 16
"""Requests handed out together; the rest waits for the next turn."""


class Lane(threading.Thread):
    """Reads the stream into memory and calls `wake`; `take` and `answer` are for the model thread."""

    def __init__(self, redis: Redis, keys: Keys, worker: str, wake: Callable[[], None]) -> None:
        super().__init__(name="lane", daemon=True)
        self._redis: Any = redis
        self._keys = keys
        self._worker = worker
        self._wake = wake
        self._waiting: deque[tuple[str, LaneRequest]] = deque()
        self._entries: dict[str, str] = {}
        self._ended = threading.Event()

    def open(self) -> None:
        """Make the consumer group, and take over what a dead worker had taken and not answered."""
        try:
            self._redis.xgroup_create(self._keys.lane, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        cursor = "0-0"
        while True:
            cursor, entries, *_ = self._redis.xautoclaim(self._keys.lane, GROUP, self._worker, 0, start_id=cursor)
            self._received(entries)
            if cursor == "0-0":
                return

    def take(self) -> list[LaneRequest]:
        """Requests that somebody still waits for, oldest first."""
        taken: list[LaneRequest] = []
        while self._waiting and len(taken) < MOST_AT_ONCE:
            entry, request = self._waiting.popleft()
            if request.deadline < time.time():
                self._forget(entry)
            else:
                self._entries[request.id] = entry
                taken.append(request)
        if self._waiting:
            self._wake()
        return taken

    def answer(self, request: LaneRequest, answer: LaneAnswer) -> None:
        """Send an answer to whoever waits for it."""
        key = self._keys.answer(request.id)
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.lpush(key, answer.model_dump_json())
        pipeline.expire(key, ANSWER_SECONDS)
        try:
            pipeline.execute()
        except RedisError as error:
            log.warning("could not answer request %s: %s", request.id, error)
        self._forget(self._entries.pop(request.id))

    def end(self) -> None:
        """Stop reading."""
        self._ended.set()

    def run(self) -> None:
        """The thread's life."""
        while not self._ended.is_set():
            try:
                streams = self._redis.xreadgroup(GROUP, self._worker, {self._keys.lane: ">"}, count=64, block=1000)
            except ResponseError:
                log.warning("the generation stream is gone; making it again")
                self._again(self.open)
                continue
            except RedisError as error:
                log.warning("the generation stream does not answer: %s", error)
                self._ended.wait(1.0)
                continue
            for _, entries in streams or ():
                self._received(entries)

    def _again(self, action: Callable[[], None]) -> None:
        try:
            action()
        except RedisError as error:
            log.warning("%s", error)
            self._ended.wait(1.0)

    def _received(self, entries: Any) -> None:
        for entry, fields in entries:
            try:
                self._waiting.append((entry, LaneRequest.model_validate_json(fields["request"])))
            except (ValidationError, KeyError, TypeError):
                log.warning("entry %s of the generation stream is not a request; dropped", entry)
                self._forget(entry)
        if entries:
            self._wake()

    def _forget(self, entry: str) -> None:
        try:
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.xack(self._keys.lane, GROUP, entry)
            pipeline.xdel(self._keys.lane, entry)
            pipeline.execute()
        except RedisError as error:
            log.warning("could not acknowledge entry %s: %s", entry, error)
