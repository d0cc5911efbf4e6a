"""The long jobs of one kind as a client has them: ask for one, look at it, follow it to its end, list them all."""

import secrets
from collections.abc import Iterator
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, TypeAdapter

from service.connection import Connection, given
from service.contracts.benchmarks import Benchmark, BenchmarkPage, BenchmarkRequest
from service.contracts.edits import EditStatus
from service.contracts.jobs import JobStatus
from service.contracts.traces import Kind, Trace, TracePage, TraceRequest
from service.documents import Document
from service.failures import job_failure

Asked = TypeVar("Asked", bound=BaseModel)
Page = TypeVar("Page", bound=BaseModel)

WELL = (EditStatus.APPLIED, EditStatus.MEASURED, EditStatus.REVERTED, JobStatus.COMPLETED)
"""How a job ends that has done what it was asked for; an edit may have been reverted before anybody looks again."""

LARGEST_PAGE = 100
"""What a server gives at once."""


class JobCalls(Generic[Asked, Document, Page]):
    """The edits of a server, or its evaluations, traces or benchmarks. Wherever an id is asked for, a job will do."""

    def __init__(self, connection: Connection, asked: Any, document: type[Document], page: type[Page]) -> None:
        self._connection = connection
        self._asked: TypeAdapter[Asked] = TypeAdapter(asked)
        self._document = document
        self._page = page

    def submit(self, request: Asked | None = None, /, *, idempotency_key: str | None = None, **fields: Any) -> Document:
        """POST: queue a job, given as a request or by the request's fields; the answer is the job as it waits.

        idempotency_key: two requests with one key are one job; each call has a key of its own where none is given, so
        that it can be sent again by itself. Of many facts the answer has the first only. Raises pydantic's
        ValidationError before anything is sent, or ProblemError with the fields at fault.
        """
        if request is not None and fields:
            raise TypeError("give a request, or the fields of one, and not both")
        body = self._asked.validate_python(fields if request is None else request)
        headers = {"Idempotency-Key": idempotency_key or secrets.token_hex(16)}
        path = f"/{self._document.noun}s"
        return self._connection.ask(self._document, "POST", path, body=body, headers=headers, repeatable=True)

    def run(self, request: Asked | None = None, /, *, idempotency_key: str | None = None, **fields: Any) -> Document:
        """As `submit`, and wait for the end: the job with all that was found. Raises what `submit` and `wait` do."""
        return self.wait(self.submit(request, idempotency_key=idempotency_key, **fields))

    def get(self, job: Document | str) -> Document:
        """GET: the job as it is now, with all its facts, effects or records. Raises NotFoundError."""
        return self._connection.ask(self._document, "GET", self._path(job))

    def page(self, limit: int | None = None, before: int | None = None, status: str | None = None) -> Page:
        """GET: up to `limit` jobs (by default 20, at most 100), newest first; its `next` is the next page's `before`.

        They are as `events` gives them, without what only `get` has.
        """
        params = given(limit=limit, before=before, status=status)
        return self._connection.ask(self._page, "GET", f"/{self._document.noun}s", params=params)

    def all(self, status: str | None = None, at_once: int = LARGEST_PAGE) -> Iterator[Document]:
        """Every job, newest first, asked for `at_once` as they are looked at."""
        before = None
        while True:
            page: Any = self.page(at_once, before, status)
            yield from getattr(page, f"{self._document.noun}s")
            before = page.next
            if before is None:
                return

    def events(self, job: Document | str) -> Iterator[Document]:
        """GET .../events: the job as it is, then at every change until it ends; a broken stream is opened again.

        Its `progress` tells the phase, the step, the loss. Raises NotFoundError, or UnavailableError once the server
        has been away for long.
        """
        return self._connection.follow(self._document, self._path(job))

    def wait(self, job: Document | str) -> Document:
        """Follow the job to its end: the job with all that was found.

        Raises JobFailedError, whose `job` has ended as failed, rejected or cancelled, and what `events` does.
        """
        for _ in self.events(job):
            pass
        ended = self.get(job)
        if ended.status not in WELL:
            raise job_failure(ended)
        return ended

    def cancel(self, job: Document | str) -> Document:
        """DELETE: cancel the job; a running one may still be seen as running. Raises ConflictError if it has ended."""
        return self._connection.ask(self._document, "DELETE", self._path(job))

    def _path(self, job: Document | str) -> str:
        return f"/{self._document.noun}s/{quote(id_of(job), safe='')}"


class TraceCalls(JobCalls[TraceRequest, Trace, TracePage]):
    """The traces of a server."""

    def picture(self, trace: Trace | str, form: str = "png", kind: Kind | None = None, width: int = 1200) -> bytes:
        """GET /traces/{id}.png or .svg: the heat map of one kind, or of all that were traced.

        width: of a PNG, in pixels. Raises ConflictError while the trace has not ended.
        """
        return self._connection.load(f"{self._path(trace)}.{form}", **given(kind=kind and kind.value, width=width))


class BenchmarkCalls(JobCalls[BenchmarkRequest, Benchmark, BenchmarkPage]):
    """The benchmarks of a server."""

    def report(self, benchmark: Benchmark | str, form: str = "json") -> bytes:
        """GET /benchmarks/{id}/report as json, md, html or easyedit: what is to be written to a file.

        Raises ConflictError while the benchmark has not ended.
        """
        return self._connection.load(f"{self._path(benchmark)}/report", format=form)


def id_of(job: Any) -> str:
    """A job's id, given the job or the id."""
    return job if isinstance(job, str) else str(job.id)
