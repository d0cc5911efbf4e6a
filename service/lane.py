"""Asks the workers through a stream, and waits for their answers."""

import asyncio
import contextlib
import logging
import secrets
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException

from service.answers import Answers, Mailbox
from service.contracts.exports import Exported, ExportRequest
from service.contracts.generate import Priority
from service.contracts.lane import Decoded, DecodeRequest, LaneRequest
from service.contracts.revisions import ActivationRequest, Revision, RollbackRequest
from service.errors import ProblemError, no_worker, revision_not_reached
from service.exchange import LOOK_UP_SECONDS, Exchange, bad_answer
from service.keys import Keys
from service.origin import ORIGIN

EXPORT_SECONDS = 300.0
"""How long files are waited for that one request makes."""

REACHED_SECONDS = 3.0
"""How long a revision that is not there yet is waited for."""

# KEYS: stream; ARGV: how many may wait, request. The entry's id; or, a number, how many wait already.
_ADMIT = """
local waiting = redis.call('XLEN', KEYS[1])
if waiting >= tonumber(ARGV[1]) then return waiting end
return redis.call('XADD', KEYS[1], '*', 'request', ARGV[2])
"""

Body = DecodeRequest | RollbackRequest | ActivationRequest | ExportRequest

ClientGone = Callable[[], Awaitable[object]]
"""Returns when the client has gone away."""

_log = logging.getLogger(__name__)


class Lane:
    """The short way to the workers: requests that one answers between two steps of an edit.

    timeout: seconds that an answer is waited for, at most and by default.
    max_waiting: generations that wait or are being answered, over all processes that ask.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        answers: Answers,
        stopping: threading.Event,
        timeout: float,
        max_waiting: int,
    ) -> None:
        self._redis: Any = redis
        self._keys = keys
        self._answers = answers
        self._stopping = stopping
        self._timeout = timeout
        self._max_waiting = max_waiting
        self._admit: Any = redis.register_script(_ADMIT)
        self._releases: set[asyncio.Task[None]] = set()
        self._look: asyncio.Task[bool] | None = None
        self._seen_at = -LOOK_UP_SECONDS

    async def ask(self, move: RollbackRequest | ActivationRequest, client_gone: ClientGone) -> Revision:
        """Move the head. The leader answers, or the next one if there is none.

        Raises the worker's problem, no worker (503), no answer in time (504), and ClientDisconnect.
        """
        async with self._asked(move, None, client_gone) as exchange:
            revision = (await exchange.next()).revision
        if revision is None:
            raise bad_answer("a revision")
        return revision

    async def decode(self, body: DecodeRequest, timeout: float | None, client_gone: ClientGone) -> Decoded:
        """The whole answer of any worker.

        Raises what `ask` does; and a 503 problem if too many wait already.
        """
        async with self._asked(body, timeout, client_gone) as exchange:
            decoded = (await exchange.next()).decoded
        if decoded is None:
            raise bad_answer("texts")
        return decoded

    async def export(self, body: ExportRequest, client_gone: ClientGone) -> tuple[str, Exported]:
        """Files that any worker has made, and the name of the object in the storage that holds them.

        Raises what `decode` does.
        """
        async with self._asked(body, EXPORT_SECONDS, client_gone, most=EXPORT_SECONDS) as exchange:
            exported = (await exchange.next()).exported
        if exported is None:
            raise bad_answer("files")
        return exchange.id, exported

    @asynccontextmanager
    async def stream(
        self, body: DecodeRequest, timeout: float | None, client_gone: ClientGone
    ) -> AsyncIterator[Exchange]:
        """Any worker's answer as it is made; entered once a worker has accepted the request, `body.stream` being set.

        Raises what `decode` does: on entering, and later from the iteration. Whoever leaves early frees the rows.
        """
        async with self._asked(body, timeout, client_gone) as exchange:
            await exchange.begin()
            yield exchange

    async def until_reached(self, revision: int) -> None:
        """Wait a little until the ledger has this revision; a 503 problem if it does not get there."""
        milliseconds = int(1000 * min(REACHED_SECONDS, self._timeout))
        # the first entry after r-0 is r-1, which is revision r, or a later one
        start = f"{min(revision, 2**63)}-0"  # what Redis takes as an id
        found = await self._redis.xread({self._keys.ledger: start}, count=1, block=milliseconds)
        if not found:
            last = await self._redis.xrevrange(self._keys.ledger, count=1)
            head = f"the head is r{last[0][0].split('-')[0]}" if last else "there is no revision yet"
            raise revision_not_reached(f"min_revision: r{revision} is not there yet, {head}. Try again.")

    @asynccontextmanager
    async def _asked(
        self, body: Body, timeout: float | None, client_gone: ClientGone, most: float | None = None
    ) -> AsyncIterator[Exchange]:
        most = most or self._timeout
        seconds = min(timeout or most, most)
        request = LaneRequest(
            id=secrets.token_hex(8),
            body=body,
            deadline=time.time() + seconds,
            answers=self._answers.stream,
            request_id=ORIGIN.get().request_id,
            by=ORIGIN.get().by,
        )
        with self._answers.to(request.id) as mailbox:
            try:
                stream, entry = await self._send(request)
            except asyncio.CancelledError:
                self._in_the_end(self._redis.publish(self._keys.gone, request.id))  # it may be there all the same
                raise
            exchange = Exchange(request, seconds, mailbox, self._still_there, self._stopping)
            watcher = asyncio.create_task(_watch(client_gone, mailbox))
            try:
                yield exchange
            finally:
                watcher.cancel()
                await self._release(exchange, stream, entry)

    async def _send(self, request: LaneRequest) -> tuple[str, str]:
        body, text = request.body, request.model_dump_json()
        if isinstance(body, RollbackRequest | ActivationRequest):
            return self._keys.moves, await self._redis.xadd(self._keys.moves, {"request": text})
        # Benchmarks leave half of the line to people.
        most = self._max_waiting if body.priority is Priority.INTERACTIVE else max(1, self._max_waiting // 2)
        entry: str | int = await self._admit(keys=[self._keys.lane], args=[most, text])
        if isinstance(entry, int):
            raise ProblemError(
                503,
                "queue-full",
                f"{entry} generations wait already, and at most {most} of {body.priority} priority may. Try again.",
                retry_after=2,
            )
        return self._keys.lane, entry

    async def _release(self, exchange: Exchange, stream: str, entry: str) -> None:
        """Done even if the caller is cancelled: rows that nobody waits for are not to be decoded any further.

        What has its last answer is done with: the worker deletes the entry itself, and nobody need wait for that.
        """
        if exchange.ended:
            return
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.xdel(stream, entry)
        pipeline.publish(self._keys.gone, exchange.id)
        await asyncio.shield(self._in_the_end(pipeline.execute()))

    def _in_the_end(self, telling: Awaitable[Any]) -> asyncio.Task[None]:
        """Tell Redis that nobody waits for a request, whoever is cancelled meanwhile."""

        async def tell() -> None:
            try:
                await telling
            except RedisError as error:
                _log.warning("could not take back a request: %s", error)

        task = asyncio.create_task(tell())
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)
        return task

    async def _still_there(self) -> None:
        """All requests that wait look together, and once a worker was seen, not at once again."""
        if time.monotonic() - self._seen_at < LOOK_UP_SECONDS / 2:
            return
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._anybody())
        if not await asyncio.shield(self._look):
            raise no_worker(self._keys.model, "it went away before it answered. Try again.")
        self._seen_at = time.monotonic()

    async def _anybody(self) -> bool:
        names = await self._redis.zrange(self._keys.workers, 0, -1)
        return bool(names) and bool(await self._redis.exists(*map(self._keys.worker, names)))


async def _watch(client_gone: ClientGone, mailbox: Mailbox) -> None:
    with contextlib.suppress(HTTPException):  # a body too large that nobody reads is no word of leaving
        await client_gone()
        mailbox.put_nowait(None)
