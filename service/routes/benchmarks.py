"""Benchmarks: ask for one, watch it, cancel it, read its report."""

import json
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from redis.asyncio.client import PubSub

from service.board import Notices
from service.checks import check_benchmark
from service.contracts.base import Contract
from service.contracts.benchmarks import Benchmark, BenchmarkPage, BenchmarkRequest, BenchmarkResult
from service.contracts.jobs import JobStatus
from service.dependencies import BenchmarkId, CanEdit, CanRead, IdempotencyKey, Services, WithServices
from service.errors import ProblemError
from service.middleware import REVISION
from service.reporting.easyedit import easyedit
from service.reporting.markdown import markdown
from service.reporting.page import page
from service.routes.watching import PageQuery, annotated, announced, of_revision, watch

router = APIRouter(prefix="/benchmarks", tags=["benchmarks"])

_COMPARE = {"dataset": "palimpsest", "methods": ["rome", {"method": "memit", "hparams": {"v_lr": 0.3}}], "n": 20}

Asked = Annotated[
    BenchmarkRequest,
    Body(
        openapi_examples={
            "compare": {"summary": "Two methods, one record at a time", "value": _COMPARE},
            "sequence": {
                "summary": "A hundred records on top of each other, ten at once",
                "value": {"methods": ["memit"], "n": 100, "batch_size": 10, "mode": "sequential"},
            },
        }
    ),
]
"""The body of `POST /benchmarks`."""


class Form(StrEnum):
    """How a report is written."""

    JSON = "json"
    MARKDOWN = "md"
    HTML = "html"
    EASYEDIT = "easyedit"


MEDIA_TYPES = {
    Form.JSON: "application/json",
    Form.MARKDOWN: "text/markdown; charset=utf-8",
    Form.HTML: "text/html; charset=utf-8",
    Form.EASYEDIT: "application/json",
}


class ReportQuery(Contract):
    """How the report is to be written."""

    format: Form = Form.JSON


class BenchmarkQuery(PageQuery):
    """Which benchmarks to list."""

    status: JobStatus | None = None


@router.post("", status_code=202, summary="Compare methods on a data set")
def create_benchmark(
    request: Asked, response: Response, services: CanEdit, idempotency_key: IdempotencyKey = None
) -> Benchmark:
    """Queue a benchmark: each record is edited by each method, scored, and the edit is dropped; the head stays.

    It runs in its turn among the edits; readers are answered between its steps. Watch it at `Location`.
    """
    benchmarks = services.benchmarks
    benchmark_id = benchmarks.known(request, idempotency_key) if idempotency_key else None
    notices = services.board.look()
    if benchmark_id is None:
        _admit(request, notices, services)
        benchmark_id, _ = benchmarks.create(request, idempotency_key)
    benchmark = benchmarks.glance(benchmark_id)
    if benchmark.status is JobStatus.QUEUED:
        services.ring(benchmark_id, "benchmark")
    response.headers["Location"] = f"/benchmarks/{benchmark_id}"
    return of_revision(notices.annotate(benchmark), response)


@router.get("", summary="List benchmarks")
def list_benchmarks(query: Annotated[BenchmarkQuery, Query()], services: CanRead) -> BenchmarkPage:
    """All benchmarks, newest first, a page at a time, without their records."""
    notices = services.board.look()
    found, cursor = services.benchmarks.newest(query.before, query.limit, query.status)
    return BenchmarkPage(benchmarks=tuple(map(notices.annotate, found)), next=cursor, revision=notices.head)


@router.get("/{benchmark_id}", summary="Look at a benchmark")
def get_benchmark(benchmark_id: BenchmarkId, response: Response, services: CanRead) -> Benchmark:
    """One benchmark: its status, progress and scores, with all its records."""
    return of_revision(annotated(services.benchmarks.get(benchmark_id), services), response)


def _glance(benchmark_id: BenchmarkId, services: WithServices) -> Benchmark:
    return annotated(services.benchmarks.glance(benchmark_id), services)


Existing = Annotated[Benchmark, Depends(_glance)]


@router.delete("/{benchmark_id}", summary="Cancel a benchmark", responses={202: {"model": Benchmark}})
def cancel_benchmark(benchmark_id: BenchmarkId, response: Response, services: CanEdit) -> Benchmark:
    """Cancel a benchmark: at once (200) if it was queued; a running one is asked to stop (202)."""
    services.benchmarks.cancel(benchmark_id)
    benchmark = _glance(benchmark_id, services)
    response.status_code = 200 if benchmark.status.ended else 202
    return of_revision(benchmark, response)


async def _changes(benchmark: Existing, services: WithServices) -> AsyncIterator[PubSub]:
    async with announced("benchmark", benchmark.id, services) as channel:
        yield channel


@router.get("/{benchmark_id}/events", response_class=EventSourceResponse, summary="Watch a benchmark")
async def watch_benchmark(
    benchmark: Existing, changes: Annotated[Any, Depends(_changes)], services: CanRead
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: the benchmark as it is, without records, then again whenever it changed, until it has ended.

    The event's name is the benchmark's status, its data is the benchmark.
    """
    async for event in watch(benchmark, services.benchmarks.glance_again, changes, services):
        yield event


@router.get(
    "/{benchmark_id}/report",
    response_class=Response,
    summary="A benchmark's report",
    responses={200: {"content": {media: {} for media in MEDIA_TYPES.values()}, "description": "The report."}},
)
def report_benchmark(benchmark_id: BenchmarkId, query: Annotated[ReportQuery, Query()], services: CanRead) -> Response:
    """What was found, for people and for other tools: a page with plots, Markdown, JSON, EasyEdit's shape."""
    benchmark = services.benchmarks.get(benchmark_id)
    result = benchmark.result
    if result is None:
        raise ProblemError(
            409,
            "benchmark-not-completed",
            f"Benchmark {benchmark_id} is {benchmark.status} and has no report. Watch "
            f"/benchmarks/{benchmark_id}/events until it is completed.",
        )
    headers = {REVISION: str(result.revision)}
    return Response(_written(benchmark, result, query.format), media_type=MEDIA_TYPES[query.format], headers=headers)


def _written(benchmark: Benchmark, result: BenchmarkResult, form: Form) -> str:
    match form:
        case Form.MARKDOWN:
            return markdown(benchmark, result)
        case Form.HTML:
            return page(benchmark, result)
        case Form.EASYEDIT:
            return json.dumps(easyedit(result), indent=2, ensure_ascii=False)
        case _:
            return result.model_dump_json(indent=2)


def _admit(request: BenchmarkRequest, notices: Notices, services: Services) -> None:
    if isinstance(request.revision, int):
        services.ledger.revision(request.revision)
    if notices.worker is not None and notices.card is not None:
        check_benchmark(request, notices.card)
