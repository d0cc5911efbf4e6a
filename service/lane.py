"""Asks a worker through the generation stream, and waits for its answer."""

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
from service.errors import ProblemError, no_worker
from service.keys import Keys

LOOK_UP_SECONDS = 1.0
"""How often a waiting request looks whether the worker and the client are still there."""


class Lane:
    """The short way to the worker: requests that it answers between two steps of an edit."""

    def __init__(self, redis: Redis, keys: Keys, timeout: float, stopping: threading.Event) -> None:
        self._redis: Any = redis
        self._keys = keys
        self._timeout = timeout
        self._stopping = stopping

    async def ask(
        self, body: GenerateRequest | RollbackRequest | ActivationRequest, client_gone: Callable[[], Awaitable[bool]]
    ) -> LaneAnswer:
        """The worker's answer; its problem, no worker (503) and no answer in time (504) are raised."""
        request = LaneRequest(id=secrets.token_hex(8), body=body, deadline=time.time() + self._timeout)
        entry = await self._redis.xadd(self._keys.lane, {"request": request.model_dump_json()})
        try:
            answer = await self._wait(request, client_gone)
        finally:
            # Whoever has not read it yet need not: nobody waits any longer.
            await self._redis.xdel(self._keys.lane, entry)
        if answer.problem is not None:
            raise ProblemError.of(answer.problem)
        return answer

    async def _wait(self, request: LaneRequest, client_gone: Callable[[], Awaitable[bool]]) -> LaneAnswer:
        while (left := request.deadline - time.time()) > 0:
            # Zero would mean to wait for ever.
            seconds = max(0.01, min(LOOK_UP_SECONDS, left))
            popped = await self._redis.blpop([self._keys.answer(request.id)], timeout=seconds)
            if popped is not None:
                return LaneAnswer.model_validate_json(popped[1])
            if not await self._redis.exists(self._keys.worker):
                raise no_worker(self._keys.model, "it went away before it answered. Try again.")
            if await client_gone():
                raise ClientDisconnect
            if self._stopping.is_set():
                raise ProblemError(503, "stopping", "The service is stopping. Try again soon.", retry_after=5)
        raise ProblemError(
            504,
            "no-answer",
            f"The worker did not answer within {self._timeout:g} s. Ask for less, or try again; "
            "GET /revisions shows whether a rollback was made.",
        )
