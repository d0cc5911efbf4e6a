"""One request on its way: waits for what is answered to it, and looks whether anybody still will."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from starlette.requests import ClientDisconnect

from service.contracts.lane import Decoded, LaneAnswer, LaneRequest, Piece, Started
from service.contracts.revisions import ActivationRequest, RollbackRequest
from service.errors import ProblemError

LOOK_UP_SECONDS = 1.0
"""How often a waiting request looks whether a worker is still there."""

PATIENCE_SECONDS = 5.0
"""How long Redis may be away while an answer is waited for."""

QUIET_SECONDS = 15.0
"""After which a stream says that nothing has come."""


class Exchange:
    """The answers to one request: `next` gives each, the iteration those of a stream.

    started: who speaks, once `begin` has returned. decoded: the whole answer, once the iteration has ended.
    ended: no answer follows. still_there: raises the problem that says why nobody will answer any longer, if so.
    """

    started: Started
    decoded: Decoded

    def __init__(
        self,
        request: LaneRequest,
        seconds: float,
        mailbox: asyncio.Queue[LaneAnswer | None],
        still_there: Callable[[], Awaitable[None]],
        stopping: threading.Event,
    ) -> None:
        self.id = request.id
        self.ended = False
        self._seconds = seconds
        self._moves = isinstance(request.body, RollbackRequest | ActivationRequest)
        self._deadline = request.deadline
        self._mailbox = mailbox
        self._still_there = still_there
        self._stopping = stopping
        self._reached_at = time.monotonic()

    async def next(self) -> LaneAnswer:
        """The next answer.

        Raises a problem: the worker's own, no worker, the service is stopping (503), no answer in time (504); and
        ClientDisconnect.
        """
        while (answer := await self._next(LOOK_UP_SECONDS)) is None:
            pass
        return answer

    async def begin(self) -> None:
        """Wait until a worker has accepted the request."""
        answer = await self.next()
        started = answer.decoded.started if answer.decoded else answer.started
        if started is None:
            raise bad_answer("texts")
        self.started = started

    async def __aiter__(self) -> AsyncIterator[tuple[Piece, ...]]:
        """Pieces as they come. None at all say that nothing has come for QUIET_SECONDS: the client may like to know.

        Raises what `next` does, and a 503 problem if another worker began anew after pieces were given out.
        """
        spoken, quiet_since = False, time.monotonic()
        while not self.ended:
            answer = await self._next(min(LOOK_UP_SECONDS, QUIET_SECONDS))
            if answer is None:
                if time.monotonic() - quiet_since >= QUIET_SECONDS:
                    quiet_since = time.monotonic()
                    yield ()
                continue
            if self.ended and answer.decoded is None:
                raise bad_answer("texts")
            if answer.started is not None and (spoken or answer.started.revisions != self.started.revisions):
                raise _worker_lost()
            if answer.pieces:
                spoken = True
                yield answer.pieces
                quiet_since = time.monotonic()

    async def _next(self, seconds: float) -> LaneAnswer | None:
        """None: nothing has come for so long, and somebody is still there."""
        if (left := self._deadline - time.time()) <= 0:
            raise self._no_answer()
        if self._stopping.is_set():
            raise ProblemError(503, "stopping", "The service is stopping. Try again soon.", retry_after=5)
        try:
            async with asyncio.timeout(min(seconds, left)):
                answer = await self._mailbox.get()
        except TimeoutError:
            await self._look()
            return None
        if answer is None:
            raise ClientDisconnect
        self.ended = bool(answer.decoded or answer.revision or answer.exported or answer.problem)
        if answer.problem is not None:
            raise ProblemError.of(answer.problem)
        if answer.decoded is not None:
            self.decoded = answer.decoded
        return answer

    async def _look(self) -> None:
        try:
            await self._still_there()
            self._reached_at = time.monotonic()
        except (RedisConnectionError, RedisTimeoutError):
            if time.monotonic() - self._reached_at > PATIENCE_SECONDS:
                raise

    def _no_answer(self) -> ProblemError:
        advice = "GET /revisions shows whether the head was moved" if self._moves else "Ask for less, or try again"
        return ProblemError(504, "no-answer", f"The worker did not answer within {self._seconds:g} s. {advice}.")


def bad_answer(wanted: str) -> ProblemError:
    """502: a worker of another version."""
    return ProblemError(502, "bad-answer", f"The worker answered something else than {wanted}. Is it up to date?")


def _worker_lost() -> ProblemError:
    return ProblemError(
        503,
        "worker-lost",
        "The worker that was answering is lost, and another has begun anew. Try again.",
        retry_after=1,
    )
