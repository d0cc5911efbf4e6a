"""The HTTP API as an ASGI application."""

import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from service.answers import Answers
from service.auth import Access, Gate
from service.benchmarks import Benchmarks
from service.board import Board
from service.dependencies import Services
from service.edits import Edits
from service.evaluations import Evaluations
from service.headers import SecurityHeaders
from service.heatmaps import Heatmaps
from service.lane import Lane
from service.ledger import Ledger
from service.middleware import REQUEST_ID, REVISION, BodyLimit, RequestContext
from service.problems import HANDLED, MEDIA_TYPE, render
from service.queue import open_queue, ring
from service.routes import (
    benchmarks,
    edits,
    evaluations,
    examples,
    exports,
    generate,
    health,
    metrics,
    model,
    openai_chat,
    openai_completions,
    openai_models,
    playground,
    revisions,
    traces,
)
from service.settings import Settings
from service.spans import Spans
from service.stored import Stored
from service.telemetry import Telemetry, Watched
from service.traces import Traces

DESCRIPTION = """A database for what a language model knows: an edit is a transaction, a revision is a snapshot,
and before and after can be asked side by side at any time.

Every answer carries `X-Request-Id`, and `X-Model-Revision`: the revision that it speaks of, or the head. Errors are
problems (RFC 9457) with a stable `type` and a `detail` that says what to do; under /v1 they have OpenAI's shape."""

DOCS = "/docs"

PUBLIC = ("/", "/playground/", "/health", DOCS, f"{DOCS}/", "/static-offline-docs/", "/openapi.json")
"""What is answered without a key: signs of life, the documentation, and the files of the page."""

COUNTED = ("/ready",)
"""Answered without a key, too, but not as often as one likes: it asks Redis, and may wait."""

MAX_CONNECTIONS = 1000
"""Connections to Redis for requests that are taken in, or watch a job."""


def create_app(settings: Settings, spans: Spans | None = None) -> FastAPI:
    """The application; it connects to `settings.redis_url` when it is started.

    Whoever runs it sets the event `app.state.stopping` before it waits for open requests to end.
    """
    if settings.redis_url is None:
        raise ValueError("the API needs a Redis: set REDIS_URL, or let `palimpsest up` start an embedded one")
    openai = (openai_models.router, openai_completions.router, openai_chat.router)
    jobs = (edits.router, evaluations.router, traces.router, benchmarks.router)
    routers = (*jobs, generate.router, revisions.router, exports.router, model.router, *openai)
    resources = {route.path.split("/")[1] for router in routers for route in router.routes if isinstance(route, Route)}
    stopping, telemetry = threading.Event(), Telemetry(current := _version())
    app = FastAPIOffline(
        docs_url=DOCS,
        redoc_url=None,
        title="Palimpsest",
        version=current,
        description=DESCRIPTION,
        lifespan=_lifespan(settings, settings.redis_url, stopping, telemetry),
        middleware=[
            Middleware(Watched, telemetry=telemetry, spans=spans or Spans()),
            Middleware(SecurityHeaders, docs=DOCS),
            Middleware(RequestContext, resources=resources),
            *_cors(settings.cors_origins),
            Middleware(Access, public=PUBLIC, counted=COUNTED),
            Middleware(BodyLimit, max_bytes=settings.max_body_bytes),
        ],
        exception_handlers=dict.fromkeys(HANDLED, render),
        responses={"4XX": _problem("The request is at fault."), "5XX": _problem("The service is at fault, or busy.")},
        separate_input_output_schemas=False,
    )
    app.state.stopping = stopping
    for router in (*routers, examples.router, health.router, metrics.router):
        app.include_router(router)
    playground.add_page(app)
    return app


def _cors(origins: Sequence[str]) -> Sequence[Middleware]:
    """Only for origins that the operator has named; there are no cookies, so nothing is sent along unasked."""
    if not origins:
        return ()
    sent = ("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", REQUEST_ID)
    read = (REQUEST_ID, REVISION, "Location", "Retry-After", "ETag", "Content-Disposition", *exports.TOLD)
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=sent,
            expose_headers=read,
        )
    ]


def _version() -> str:
    try:
        return version("palimpsest")
    except PackageNotFoundError:
        return "not installed"


def _problem(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}


def _lifespan(
    settings: Settings, redis_url: str, stopping: threading.Event, telemetry: Telemetry
) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        times: dict[str, Any] = {"socket_timeout": 5.0, "socket_connect_timeout": 2.0}
        # Without retries: a client that is told at once can decide better than one that waits.
        retry = Retry(NoBackoff(), 0)
        async_retry = AsyncRetry(NoBackoff(), 0)
        with (
            Redis.from_url(redis_url, decode_responses=True, retry=retry, **times) as redis,
            Redis.from_url(redis_url, retry=retry, **times) as raw_redis,
        ):
            async with AsyncRedis.from_url(
                redis_url, decode_responses=True, retry=async_retry, max_connections=MAX_CONNECTIONS, **times
            ) as async_redis:
                answers = Answers(async_redis, settings.keys)
                async with answers.reading():
                    yield {"services": _services(settings, redis, raw_redis, async_redis, answers, stopping, telemetry)}

    return lifespan


def _services(
    settings: Settings,
    redis: Redis,
    raw_redis: Redis,
    async_redis: AsyncRedis,
    answers: Answers,
    stopping: threading.Event,
    telemetry: Telemetry,
) -> Services:
    keys = settings.keys
    return Services(
        settings=settings,
        keys=keys,
        edits=Edits(redis, keys),
        evaluations=Evaluations(redis, keys),
        traces=Traces(redis, keys),
        benchmarks=Benchmarks(redis, keys),
        heatmaps=Heatmaps(),
        ledger=Ledger(redis, keys),
        board=Board(redis, keys),
        lane=Lane(async_redis, keys, answers, stopping, settings.generate_timeout, settings.max_waiting),
        gate=Gate(async_redis, settings),
        stored=Stored(settings.blobs_place, settings.max_exports),
        ring=partial(ring, open_queue(raw_redis, keys)),
        async_redis=async_redis,
        stopping=stopping,
        telemetry=telemetry,
    )
