"""Asks a worker through a stream, and waits for its answer."""

import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis
from starlette.requests import ClientDisconnect

from service.contracts.generate import GenerateRequest
from service.contracts.lane import LaneAnswer, LaneRequest
from service.contracts.revisions import ActivationRequest, RollbackRequest
from service.errors import ProblemError, no_worker, revision_not_reached
from service.keys import Keys

LOOK_UP_SECONDS = 1.0
"""How often a waiting request looks whether a worker and the client are still there."""


REACHED_SECONDS = 3.0
"""How long a revision that is not there yet is waited for."""


class Lane:
    """The short way to the workers: requests that one answers between two steps of an edit."""

    def __init__(self, redis: Redis, keys: Keys, timeout: float, stopping: threading.Event) -> None:
        self._redis: Any = redis
        self._keys = keys
        self._timeout = timeout
        self._stopping = stopping

    async def ask(
        self, body: GenerateRequest | RollbackRequest | ActivationRequest, client_gone: Callable[[], Awaitable[bool]]
    ) -> LaneAnswer:
        """The worker's answer; its problem, no worker (503) and no answer in time (504) are raised.

        Any worker generates; a move of the head waits for the leader, and for the next one if there is none.
        """
        request = LaneRequest(id=secrets.token_hex(8), body=body, deadline=time.time() + self._timeout)
        stream = self._keys.lane if isinstance(body, GenerateRequest) else self._keys.moves
        entry = await self._redis.xadd(stream, {"request": request.model_dump_json()})
        try:
            answer = await self._wait(request, client_gone)
        finally:
            # Whoever has not read it yet need not: nobody waits any longer.
            await self._redis.xdel(stream, entry)
        if answer.problem is not None:
            raise ProblemError.of(answer.problem)
        return answer

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

    async def _wait(self, request: LaneRequest, client_gone: Callable[[], Awaitable[bool]]) -> LaneAnswer:
        while (left := request.deadline - time.time()) > 0:
            # Zero would mean to wait for ever.
            seconds = max(0.01, min(LOOK_UP_SECONDS, left))
            popped = await self._redis.blpop([self._keys.answer(request.id)], timeout=seconds)
            if popped is not None:
                return LaneAnswer.model_validate_json(popped[1])
            if not await self._anybody():
                raise no_worker(self._keys.model, "it went away before it answered. Try again.")
            if await client_gone():
                raise ClientDisconnect
            if self._stopping.is_set():
                raise ProblemError(503, "stopping", "The service is stopping. Try again soon.", retry_after=5)
        raise ProblemError(
            504,
            "no-answer",
            f"The worker did not answer within {self._timeout:g} s. Ask for less, or try again; "
            "GET /revisions shows whether the head was moved.",
        )

    async def _anybody(self) -> bool:
        names = await self._redis.zrange(self._keys.workers, 0, -1)
        return bool(names) and bool(await self._redis.exists(*map(self._keys.worker, names)))
