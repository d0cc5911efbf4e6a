"""Sends what the model thread has to say, so that it never waits for Redis."""

import logging
import secrets
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


# KEYS: marker; ARGV: round, most answers, seconds to keep them, then of each message the stream, and its group and
# entry or "" and an answer. A round that is sent again, because the word that it arrived was lost, does nothing.
# Returns what could not be done; for want of memory all of it is refused.
_SEND = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return {} end
local refused = {}
local function try(...)
  local result = redis.pcall(...)
  if type(result) == 'table' and result.err then
    if result.err:find('^OOM') then error(result) end
    refused[#refused + 1] = result.err
  end
end
for at = 4, #ARGV, 3 do
  local stream, group, text = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if group == '' then
    try('XADD', stream, 'MAXLEN', '~', ARGV[2], '*', 'answer', text)
    try('EXPIRE', stream, ARGV[3])
  else
    try('XACK', stream, group, text)
    try('XDEL', stream, text)
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
return refused
"""


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
    """Answers and receipts, sent in their order; what Redis does not take is sent again while anybody waits for it.

    Each arrives once, however often it is sent.
    """

    def __init__(self, redis: Redis) -> None:
        super().__init__(name="outbox", daemon=True)
        self._redis: Any = redis
        self._waiting: SimpleQueue[_Letter | Receipt | None] = SimpleQueue()
        self._ended = threading.Event()
        self._send = redis.register_script(_SEND)
        self._marker = f"palimpsest:outbox:{secrets.token_hex(8)}"
        self._round = 0

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
            self._round += 1
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
        parts = [part for message in messages for part in _parts(message)]
        try:
            refused = self._send(keys=[self._marker], args=[self._round, MOST_ANSWERS, ANSWERS_SECONDS, *parts])
        except RedisError as error:
            log.warning("Redis does not take %d answers: %s", len(messages), error)
            return False
        for why in refused:  # the others are through, and this one would fail again
            log.warning("Redis does not take an answer: %s", why)
        return True


def _parts(message: _Letter | Receipt) -> tuple[str, str, str]:
    if isinstance(message, Receipt):
        return message.stream, message.group, message.entry
    return message.stream, "", message.text
