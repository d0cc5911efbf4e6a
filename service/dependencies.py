"""What a route may ask for in its signature."""

import re
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header, Path, Request, Response, Security
from fastapi.security import HTTPBearer
from pydantic import StringConstraints
from redis.asyncio import Redis as AsyncRedis

from service.auth import Caller, Gate, forbidden, no_key
from service.benchmarks import Benchmarks
from service.board import Board
from service.contracts.access import Scope
from service.contracts.revisions import Revision
from service.edits import Edits
from service.errors import not_found
from service.evaluations import Evaluations
from service.heatmaps import Heatmaps
from service.keys import Keys
from service.lane import ClientGone, Lane
from service.ledger import Ledger
from service.middleware import REVISION
from service.settings import Settings
from service.stored import Stored
from service.telemetry import Telemetry
from service.traces import Traces


@dataclass(frozen=True)
class Services:
    """What one running API works with; made when it starts."""

    settings: Settings
    keys: Keys
    edits: Edits
    evaluations: Evaluations
    traces: Traces
    benchmarks: Benchmarks
    ledger: Ledger
    board: Board
    lane: Lane
    heatmaps: Heatmaps
    stored: Stored
    gate: Gate
    ring: Callable[[str, str], None]
    async_redis: AsyncRedis
    stopping: threading.Event
    telemetry: Telemetry

    async def head(self) -> int | None:
        """The newest revision; None while the ledger is empty."""
        redis: Any = self.async_redis
        last = await redis.xrevrange(self.keys.ledger, count=1)
        return int(last[0][0].split("-")[0]) if last else None

    def is_active(self) -> Callable[[str], bool]:
        """Says whether an edit is in force at the head; asked only after the edit's document was read.

        What was in force a moment ago may be taken from memory, what was not may have been committed since.
        """
        known: frozenset[str] = frozenset()

        def ask(edit_id: str) -> bool:
            nonlocal known
            if edit_id not in known:
                known = self.ledger.active_edits()
            return edit_id in known

        return ask


async def _services(request: Request) -> Services:
    services: Services = request.state.services
    return services


BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    description="An API key, made with `palimpsest keys create`. On 127.0.0.1 none is needed until there is one.",
)


class Needs:
    """Gives a route the running service, if the caller's key has this scope; 403 otherwise."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, request: Request, _: Annotated[object, Security(BEARER)]) -> Services:
        """The service; 401 if nobody has found out who asks."""
        caller = _known(request)
        if not caller.allows.includes(self.scope):
            raise forbidden(self.scope, caller)
        return await _services(request)


def _known(request: Request) -> Caller:
    caller: Caller | None = getattr(request.state, "caller", None)
    if caller is None:
        raise no_key(given=False)
    return caller


async def _caller(request: Request) -> Caller:
    return _known(request)


async def _client_gone(request: Request) -> ClientGone:
    async def wait() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    return wait


async def _until_answered() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def tell_moved(revision: Revision, response: Response) -> Revision:
    """The revision that a worker has made; the response's headers tell it too."""
    response.headers["Location"] = f"/revisions/{revision.revision}"
    response.headers[REVISION] = str(revision.revision)
    return revision


_Id = Annotated[str, Path(description="16 hexadecimal digits", max_length=1000)]


async def _edit_id(edit_id: _Id) -> str:
    return _possible("edit", edit_id)


async def _evaluation_id(evaluation_id: _Id) -> str:
    return _possible("evaluation", evaluation_id)


async def _trace_id(trace_id: _Id) -> str:
    return _possible("trace", trace_id)


async def _benchmark_id(benchmark_id: _Id) -> str:
    return _possible("benchmark", benchmark_id)


def _possible(noun: str, job_id: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{16}", job_id):
        raise not_found(f"{noun} {job_id[:40]!r}", f"GET /{noun}s lists all {noun}s.")
    return job_id


CanRead = Annotated[Services, Security(Needs(Scope.READ), scopes=[Scope.READ])]
"""The running service, for whoever may read. Each route asks for the service by the scope that it needs."""

CanEdit = Annotated[Services, Security(Needs(Scope.EDIT), scopes=[Scope.EDIT])]
"""The same for whoever may change the model, or keep it busy with long jobs."""

CanAdmin = Annotated[Services, Security(Needs(Scope.ADMIN), scopes=[Scope.ADMIN])]
"""The same for whoever may take the whole model away."""

WithServices = Annotated[Services, Depends(_services)]
"""The running service, for what no key is needed for, and for parts of routes that ask for a scope themselves."""

WhoAsks = Annotated[Caller, Depends(_caller)]
"""The caller, by key or address."""

WithClientGone = Annotated[ClientGone, Depends(_client_gone)]
"""Waits until the client has gone away."""

UntilAnswered = Annotated[AsyncExitStack, Depends(_until_answered)]
"""What is entered here is left when the answer has been sent, or cannot be."""

EditId = Annotated[str, Depends(_edit_id)]
"""The id of an edit that may exist; anything else is a 404 problem."""

EvaluationId = Annotated[str, Depends(_evaluation_id)]
"""The same of an evaluation."""

TraceId = Annotated[str, Depends(_trace_id)]
"""The same of a trace."""

BenchmarkId = Annotated[str, Depends(_benchmark_id)]
"""The same of a benchmark."""

IdempotencyKey = Annotated[
    str | None,
    StringConstraints(pattern=r"^[!-~]{1,200}$"),
    Header(
        alias="Idempotency-Key",
        description="1 to 200 visible ASCII characters; the same key and body give the same answer again",
    ),
]
"""A client's name for one request, so that it can be repeated safely."""
