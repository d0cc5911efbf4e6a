"""A stream's worker side: a thread takes requests from Redis, the model thread answers them, an outbox sends."""

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
from worker.outbox import Outbox, Receipt

log = logging.getLogger(__name__)

GROUP = "workers"

CLAIM_SECONDS = 1.0
"""How often it is looked whether another worker has died with requests that it had taken."""

# KEYS: stream; ARGV: group, this worker, what the key of a worker's heartbeat begins with.
# Takes over what workers without a heartbeat had taken, and forgets those of them that had taken nothing.
_CLAIM = """
local claimed = {}
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local name, pending = consumer[2], consumer[4]
  if name ~= ARGV[2] and redis.call('EXISTS', ARGV[3] .. name) == 0 then
    if pending == 0 then
      redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], name)
    else
      local ids = {}
      for _, row in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1000, name)) do ids[#ids + 1] = row[1] end
      for _, entry in ipairs(redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, unpack(ids))) do
        claimed[#claimed + 1] = entry
      end
    end
  end
end
return claimed
"""


class Lane(threading.Thread):
    """Reads a stream into memory and calls `wake`; `take` and `answer` are for the model thread.

    Workers that read the same stream share its requests; what a dead one has left, another answers.
    """

    def __init__(
        self, redis: Redis, keys: Keys, stream: str, worker: str, wake: Callable[[], None], outbox: Outbox
    ) -> None:
        super().__init__(name=f"lane {stream}", daemon=True)
        self._redis: Any = redis
        self._keys = keys
        self._stream = stream
        self._worker = worker
        self._wake = wake
        self._outbox = outbox
        self._claim = redis.register_script(_CLAIM)
        self._claimed_at = 0.0
        self._waiting: deque[tuple[str, LaneRequest]] = deque()
        self._entries: dict[str, str] = {}
        self._ended = threading.Event()

    def open(self) -> None:
        """Make the consumer group, and take over what dead workers had taken and not answered."""
        try:
            self._redis.xgroup_create(self._stream, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        self._take_over()

    def take(self) -> list[LaneRequest]:
        """Requests that somebody still waits for, oldest first."""
        taken: list[LaneRequest] = []
        while self._waiting:
            entry, request = self._waiting.popleft()
            if request.deadline < time.time():
                self._forget(entry)
            else:
                self._entries[request.id] = entry
                taken.append(request)
        return taken

    def answer(self, request: LaneRequest, answer: LaneAnswer | None) -> None:
        """Send an answer to whoever waits for it, soon; after the last one, or None, the request is done with."""
        if answer is not None:
            self._outbox.send(request, answer)
        if answer is None or answer.last:
            entry = self._entries.pop(request.id, None)
            if entry is not None:  # None: taken twice, and answered before
                self._forget(entry)

    def end(self) -> None:
        """Stop reading."""
        self._ended.set()

    def run(self) -> None:
        """The thread's life."""
        while not self._ended.is_set():
            try:
                if time.monotonic() - self._claimed_at > CLAIM_SECONDS:
                    self._take_over()
                streams = self._redis.xreadgroup(GROUP, self._worker, {self._stream: ">"}, count=64, block=1000)
            except ResponseError:
                log.warning("the stream %s is gone; making it again", self._stream)
                self._again(self.open)
                continue
            except RedisError as error:
                log.warning("the stream %s does not answer: %s", self._stream, error)
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

    def _take_over(self) -> None:
        self._claimed_at = time.monotonic()
        entries = self._claim(keys=[self._stream], args=[GROUP, self._worker, self._keys.worker("")])
        self._received([(entry, dict(zip(flat[::2], flat[1::2], strict=True))) for entry, flat in entries])

    def _received(self, entries: Any) -> None:
        for entry, fields in entries:
            try:
                self._waiting.append((entry, LaneRequest.model_validate_json(fields["request"])))
            except (ValidationError, KeyError, TypeError):
                log.warning("entry %s of the stream %s is not a request; dropped", entry, self._stream)
                self._forget(entry)
        if entries:
            self._wake()

    def _forget(self, entry: str) -> None:
        self._outbox.done(Receipt(self._stream, GROUP, entry))
