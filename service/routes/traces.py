"""Traces: ask for one, watch it, look at it as numbers or as a picture, cancel it."""

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import Field
from redis.asyncio.client import PubSub

from service.board import Notices
from service.checks import check_trace
from service.contracts.base import Contract
from service.contracts.jobs import JobStatus
from service.contracts.traces import Kind, Trace, TracePage, TraceRequest
from service.dependencies import CanEdit, CanRead, IdempotencyKey, Services, TraceId, WithServices
from service.errors import ProblemError, invalid
from service.middleware import REVISION
from service.routes.watching import PageQuery, annotated, announced, of_revision, watch

router = APIRouter(prefix="/traces", tags=["traces"])

_EIFFEL = {"prompt": "The Eiffel Tower is located in the city of", "subject": "The Eiffel Tower"}

Asked = Annotated[
    TraceRequest,
    Body(
        openapi_examples={
            "own": {"summary": "What the model answers by itself", "value": _EIFFEL},
            "target": {"summary": "An answer, at a revision", "value": {**_EIFFEL, "target": "Rome", "revision": "r3"}},
        }
    ),
]
"""The body of `POST /traces`."""


class TraceQuery(PageQuery):
    """Which traces to list."""

    status: JobStatus | None = None


class Form(StrEnum):
    """How a picture is written."""

    PNG = "png"
    SVG = "svg"


MEDIA_TYPES = {Form.PNG: "image/png", Form.SVG: "image/svg+xml"}


class PictureQuery(Contract):
    """What to draw, and how large."""

    kind: Annotated[Kind | None, Field(description="one of those that were traced; by default all, side by side")] = (
        None
    )
    width: Annotated[int, Field(ge=200, le=4000, description="pixels of a PNG; the height follows")] = 1200


@router.post("", status_code=202, summary="Trace where an answer comes from")
def create_trace(
    request: Asked, response: Response, services: CanEdit, idempotency_key: IdempotencyKey = None
) -> Trace:
    """Queue causal tracing: the subject is hidden by noise, and what each state brings back of the answer is measured.

    It runs in its turn among the edits. The answer tells its id and place; watch it at `Location`.
    """
    traces = services.traces
    trace_id = traces.known(request, idempotency_key) if idempotency_key else None
    notices = services.board.look()
    if trace_id is None:
        _admit(request, notices, services)
        trace_id, _ = traces.create(request, idempotency_key)
    trace = traces.glance(trace_id)
    if trace.status is JobStatus.QUEUED:
        services.ring(trace_id, "trace")
    response.headers["Location"] = f"/traces/{trace_id}"
    return of_revision(notices.annotate(trace), response)


@router.get("", summary="List traces")
def list_traces(query: Annotated[TraceQuery, Query()], services: CanRead) -> TracePage:
    """All traces, newest first, a page at a time, without their effects."""
    notices = services.board.look()
    found, cursor = services.traces.newest(query.before, query.limit, query.status)
    return TracePage(traces=tuple(map(notices.annotate, found)), next=cursor, revision=notices.head)


@router.get(
    "/{trace_id}.{form}",
    response_class=Response,
    summary="A trace's picture",
    responses={200: {"content": {media: {} for media in MEDIA_TYPES.values()}, "description": "The heat map."}},
)
def draw_trace(trace_id: TraceId, form: Form, query: Annotated[PictureQuery, Query()], services: CanRead) -> Response:
    """The heat map as the paper draws it: tokens down, the subject's starred, layers across."""
    trace = services.traces.get(trace_id)
    if trace.result is None:
        raise ProblemError(
            409,
            "trace-not-completed",
            f"Trace {trace_id} is {trace.status} and has nothing to draw. Watch /traces/{trace_id}/events until it is "
            "completed.",
        )
    traced = list(trace.result.effects)
    if query.kind is not None and query.kind not in traced:
        raise invalid("kind", f"was not traced; take one of {', '.join(traced)}, or trace it", "not-traced")
    kinds = traced if query.kind is None else [query.kind]
    picture = services.heatmaps.draw(trace.result, kinds, form.value, query.width)
    return Response(picture, media_type=MEDIA_TYPES[form], headers={REVISION: str(trace.result.revision)})


@router.get("/{trace_id}", summary="Look at a trace")
def get_trace(trace_id: TraceId, response: Response, services: CanRead) -> Trace:
    """One trace: its status, progress and effects."""
    return of_revision(annotated(services.traces.get(trace_id), services), response)


def _glance(trace_id: TraceId, services: WithServices) -> Trace:
    return annotated(services.traces.glance(trace_id), services)


Existing = Annotated[Trace, Depends(_glance)]


@router.delete("/{trace_id}", summary="Cancel a trace", responses={202: {"model": Trace}})
def cancel_trace(trace_id: TraceId, response: Response, services: CanEdit) -> Trace:
    """Cancel a trace: at once (200) if it was queued; a running one is asked to stop (202)."""
    services.traces.cancel(trace_id)
    trace = _glance(trace_id, services)
    response.status_code = 200 if trace.status.ended else 202
    return of_revision(trace, response)


async def _changes(trace: Existing, services: WithServices) -> AsyncIterator[PubSub]:
    async with announced("trace", trace.id, services) as channel:
        yield channel


@router.get("/{trace_id}/events", response_class=EventSourceResponse, summary="Watch a trace")
async def watch_trace(
    trace: Existing, changes: Annotated[Any, Depends(_changes)], services: CanRead
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: the trace as it is, without effects, then again whenever it changed, until it has ended.

    The event's name is the trace's status, its data is the trace.
    """
    async for event in watch(trace, services.traces.glance_again, changes, services):
        yield event


def _admit(request: TraceRequest, notices: Notices, services: Services) -> None:
    if isinstance(request.revision, int):
        services.ledger.revision(request.revision)
    if notices.worker is not None and notices.card is not None:
        check_trace(request, notices.card, services.board.counter(notices.card))
