"""Reads the workers' answers to this process, and hands each to the request that waits for it."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.contracts.lane import LaneAnswer
from service.keys import Keys

BLOCK_MILLISECONDS = 2000
"""How long one reading waits for an answer; less than the connection's own patience."""

MOST_AT_ONCE = 500
"""Answers of one reading."""

RETRY_SECONDS = 0.2
"""How long Redis is left alone after it has failed."""

TELL_SECONDS = 60.0
"""How long nothing more is said of a Redis that goes on failing."""

CANCEL_SECONDS = 0.02
"""How long the reader may take to end before it is told again."""

Mailbox = asyncio.Queue[LaneAnswer | None]
"""What has come for one request; None says that its client has gone away."""

_log = logging.getLogger(__name__)


class Answers:
    """One stream and one reader for all requests of a process: to wait costs no connection."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis: Any = redis
        self.stream = keys.answers(secrets.token_hex(8))
        self._waiting: dict[str, Mailbox] = {}

    @contextmanager
    def to(self, request_id: str) -> Iterator[Mailbox]:
        """Where the answers to a request arrive; afterwards nobody wants them."""
        self._waiting[request_id] = mailbox = Mailbox()
        try:
            yield mailbox
        finally:
            del self._waiting[request_id]

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Read from here on; at the end the stream is deleted."""
        reader = asyncio.create_task(self._read(), name=f"reads {self.stream}")
        try:
            yield
        finally:
            while not reader.done():
                reader.cancel()  # again, because wait_for of Python 3.11, with which redis-py sends, may swallow it
                await asyncio.wait({reader}, timeout=CANCEL_SECONDS)
            with contextlib.suppress(RedisError):
                await self._redis.delete(self.stream)

    async def _read(self) -> None:
        last = "0"
        told: float | None = None
        while True:
            try:
                found = await self._redis.xread({self.stream: last}, count=MOST_AT_ONCE, block=BLOCK_MILLISECONDS)
            except RedisError as error:
                if told is None or time.monotonic() - told >= TELL_SECONDS:
                    _log.warning("the stream %s does not answer: %s", self.stream, error)
                    told = time.monotonic()
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if told is not None:
                _log.warning("the stream %s answers again", self.stream)  # as loud as that it did not
                told = None
            for _, entries in found or ():
                for entry, fields in entries:
                    last = entry
                    self._deliver(entry, fields)

    def _deliver(self, entry: str, fields: dict[str, str]) -> None:
        try:
            answer = LaneAnswer.model_validate_json(fields["answer"])
        except (ValidationError, KeyError, TypeError):
            _log.warning("entry %s of the stream %s is not an answer; dropped", entry, self.stream)
            return
        mailbox = self._waiting.get(answer.id)
        if mailbox is not None:
            mailbox.put_nowait(answer)
