"""Sends what the model thread has to say, so that it never waits for Redis."""

import logging
import threading
import time
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from service.contracts.lane import LaneAnswer, LaneRequest

log = logging.getLogger(__name__)

ANSWERS_SECONDS = 120
"""How long answers wait to be read; whoever has asked reads all the time."""

MOST_ANSWERS = 10_000
"""About how many of them are kept for one reader."""

MOST_AT_ONCE = 500
"""Messages of one round trip."""

RETRY_SECONDS = 0.5
"""How long Redis is left alone after it has failed."""


@dataclass(frozen=True)
class Receipt:
    """A request's entry in a stream, which is done with."""

    stream: str
    group: str
    entry: str


@dataclass(frozen=True)
class _Letter:
    """An answer, to which stream it goes, and until when anybody waits for it."""

    stream: str
    text: str
    deadline: float


class Outbox(threading.Thread):
    """Answers and receipts, sent in their order; what Redis does not take is sent again while anybody waits for it."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(name="outbox", daemon=True)
        self._redis: Any = redis
        self._waiting: SimpleQueue[_Letter | Receipt | None] = SimpleQueue()
        self._ended = threading.Event()

    def send(self, request: LaneRequest, answer: LaneAnswer) -> None:
        """Put an answer on its way; never waits."""
        self._waiting.put(_Letter(request.answers, answer.model_dump_json(), request.deadline))

    def done(self, receipt: Receipt) -> None:
        """Let an entry be acknowledged and deleted, after what was sent before."""
        self._waiting.put(receipt)

    def end(self) -> None:
        """Send what is waiting, if Redis takes it, and stop."""
        self._ended.set()
        self._waiting.put(None)

    def run(self) -> None:
        """The thread's life."""
        while True:
            found = [self._waiting.get(), *self._more()]
            messages = [message for message in found if message is not None]
            while messages and not self._sent(messages) and not self._ended.wait(RETRY_SECONDS):
                now = time.time()
                messages = [each for each in messages if isinstance(each, Receipt) or each.deadline > now]
            if None in found:
                return

    def _more(self) -> list[_Letter | Receipt | None]:
        """Whatever else is waiting already."""
        more: list[_Letter | Receipt | None] = []
        try:
            while len(more) < MOST_AT_ONCE:
                more.append(self._waiting.get_nowait())
        except Empty:
            pass
        return more

    def _sent(self, messages: list[_Letter | Receipt]) -> bool:
        pipeline = self._redis.pipeline(transaction=True)
        for message in messages:
            if isinstance(message, Receipt):
                pipeline.xack(message.stream, message.group, message.entry)
                pipeline.xdel(message.stream, message.entry)
            else:
                pipeline.xadd(message.stream, {"answer": message.text}, maxlen=MOST_ANSWERS, approximate=True)
        for stream in {message.stream for message in messages if isinstance(message, _Letter)}:
            pipeline.expire(stream, ANSWERS_SECONDS)
        try:
            results = pipeline.execute(raise_on_error=False)
        except RedisError as error:
            log.warning("Redis does not take %d answers: %s", len(messages), error)
            return False
        for result in results:
            if isinstance(result, RedisError):  # the others are through, and this one would fail again
                log.warning("Redis does not take an answer: %s", result)
        return True
