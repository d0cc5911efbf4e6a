"""A client of the HTTP API: synchronous, typed by the contracts, with every problem raised as ProblemError."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

import httpx

from service.connection import (
    CONNECT_SECONDS,
    STREAM,
    Connection,
    events_of,
    given,
    json_of,
    not_palimpsest,
    once,
    path_of,
    raise_for_problem,
    valid,
)
from service.contracts.benchmarks import Benchmark, BenchmarkPage, BenchmarkRequest
from service.contracts.edits import AnyEditRequest, Edit, EditPage
from service.contracts.evaluations import Evaluation, EvaluationPage, EvaluationRequest
from service.contracts.exports import ExportKind
from service.contracts.generate import GenerateAnswer, GeneratedPiece, GenerateRequest
from service.contracts.health import Ready
from service.contracts.model import MethodList, ModelStatus
from service.contracts.problem import Problem
from service.contracts.revisions import Reverted, Revision, RevisionPage, RollbackRequest
from service.contracts.traces import Kind, Trace, TracePage, TraceRequest
from service.errors import ProblemError
from service.unpacking import receive, require_new

GENERATION_SECONDS, SPARE_SECONDS = 600.0, 30.0
"""What a server may take for a generation whose request does not say; how much longer its answer is waited for."""

EXPORT_SECONDS = 360.0
"""How long the next piece of an export is waited for: longer than the server waits for it."""


@dataclass(frozen=True)
class Received:
    """An export that has come: of which revision; of an adapter the rank, and how much of the change was cut off."""

    revision: int
    rank: int | None
    error: float | None

    @classmethod
    def of(cls, answer: httpx.Response) -> Self:
        """What the headers tell."""
        headers = answer.headers
        try:
            rank, error = headers.get("X-Adapter-Rank"), headers.get("X-Adapter-Error")
            return cls(int(headers["X-Model-Revision"]), rank and int(rank), error and float(error))
        except (KeyError, ValueError):
            raise not_palimpsest(answer) from None


class Client(Connection):
    """One server, by its base URL. Connection errors stay httpx.TransportError."""

    def submit(self, request: AnyEditRequest, idempotency_key: str | None = None) -> Edit:
        """POST /edits: queue an edit of one fact or of a batch; of a batch the answer has the first facts only."""
        return self._ask(Edit, "POST", "/edits", body=request, headers=once(idempotency_key))

    def edit(self, edit_id: str) -> Edit:
        """GET /edits/{id}: with all its facts."""
        return self._ask(Edit, "GET", path_of("edit", edit_id))

    def edits(self, limit: int | None = None, before: int | None = None) -> EditPage:
        """GET /edits: newest first."""
        return self._ask(EditPage, "GET", "/edits", params=given(limit=limit, before=before))

    def cancel(self, edit_id: str) -> Edit:
        """DELETE /edits/{id}."""
        return self._ask(Edit, "DELETE", path_of("edit", edit_id))

    def events(self, edit_id: str) -> Iterator[Edit]:
        """GET /edits/{id}/events: the edit at every change until it ends; a broken stream is opened again.

        Of a batch it has the first facts only.
        """
        return self._follow(Edit, path_of("edit", edit_id))

    def evaluate(self, request: EvaluationRequest, idempotency_key: str | None = None) -> Evaluation:
        """POST /evaluations: queue the scoring of facts at a revision; the answer has the first facts only."""
        return self._ask(Evaluation, "POST", "/evaluations", body=request, headers=once(idempotency_key))

    def evaluation(self, evaluation_id: str) -> Evaluation:
        """GET /evaluations/{id}: with all its facts."""
        return self._ask(Evaluation, "GET", path_of("evaluation", evaluation_id))

    def evaluations(self, limit: int | None = None, before: int | None = None) -> EvaluationPage:
        """GET /evaluations: newest first."""
        return self._ask(EvaluationPage, "GET", "/evaluations", params=given(limit=limit, before=before))

    def cancel_evaluation(self, evaluation_id: str) -> Evaluation:
        """DELETE /evaluations/{id}."""
        return self._ask(Evaluation, "DELETE", path_of("evaluation", evaluation_id))

    def evaluation_events(self, evaluation_id: str) -> Iterator[Evaluation]:
        """GET /evaluations/{id}/events: as `events`, of an evaluation."""
        return self._follow(Evaluation, path_of("evaluation", evaluation_id))

    def trace(self, request: TraceRequest, idempotency_key: str | None = None) -> Trace:
        """POST /traces: queue causal tracing of an answer."""
        return self._ask(Trace, "POST", "/traces", body=request, headers=once(idempotency_key))

    def find_trace(self, trace_id: str) -> Trace:
        """GET /traces/{id}: with its effects."""
        return self._ask(Trace, "GET", path_of("trace", trace_id))

    def traces(self, limit: int | None = None, before: int | None = None) -> TracePage:
        """GET /traces: newest first, without their effects."""
        return self._ask(TracePage, "GET", "/traces", params=given(limit=limit, before=before))

    def cancel_trace(self, trace_id: str) -> Trace:
        """DELETE /traces/{id}."""
        return self._ask(Trace, "DELETE", path_of("trace", trace_id))

    def trace_events(self, trace_id: str) -> Iterator[Trace]:
        """GET /traces/{id}/events: as `events`, of a trace."""
        return self._follow(Trace, path_of("trace", trace_id))

    def trace_picture(self, trace_id: str, form: str = "png", kind: Kind | None = None, width: int = 1200) -> bytes:
        """GET /traces/{id}.png or .svg: the heat map of one kind, or of all that were traced."""
        params = {"width": width} if kind is None else {"kind": kind.value, "width": width}
        answer = self._http.get(f"{path_of('trace', trace_id)}.{form}", params=params)
        raise_for_problem(answer)
        return answer.content

    def bench(self, request: BenchmarkRequest, idempotency_key: str | None = None) -> Benchmark:
        """POST /benchmarks: queue a benchmark; the answer has none of its records."""
        return self._ask(Benchmark, "POST", "/benchmarks", body=request, headers=once(idempotency_key))

    def benchmark(self, benchmark_id: str) -> Benchmark:
        """GET /benchmarks/{id}: with all its records."""
        return self._ask(Benchmark, "GET", path_of("benchmark", benchmark_id))

    def benchmarks(self, limit: int | None = None, before: int | None = None) -> BenchmarkPage:
        """GET /benchmarks: newest first, without their records."""
        return self._ask(BenchmarkPage, "GET", "/benchmarks", params=given(limit=limit, before=before))

    def cancel_benchmark(self, benchmark_id: str) -> Benchmark:
        """DELETE /benchmarks/{id}."""
        return self._ask(Benchmark, "DELETE", path_of("benchmark", benchmark_id))

    def benchmark_events(self, benchmark_id: str) -> Iterator[Benchmark]:
        """GET /benchmarks/{id}/events: as `events`, of a benchmark."""
        return self._follow(Benchmark, path_of("benchmark", benchmark_id))

    def report(self, benchmark_id: str, form: str = "json") -> bytes:
        """GET /benchmarks/{id}/report as json, md, html or easyedit: what is to be written to a file."""
        answer = self._http.get(f"{path_of('benchmark', benchmark_id)}/report", params={"format": form})
        raise_for_problem(answer)
        return answer.content

    def generate(self, request: GenerateRequest) -> GenerateAnswer:
        """POST /generate: before and after, side by side. It is waited for as long as the server may take."""
        whole = request.model_copy(update={"stream": False})
        return self._ask(GenerateAnswer, "POST", "/generate", body=whole, timeout=self._patience(request))

    def stream(self, request: GenerateRequest) -> Generator[GeneratedPiece | GenerateAnswer, None, None]:
        """POST /generate with stream=true: what each side says as it comes, and last the whole answer.

        Whoever closes the iterator, or lets it go, closes the connection, and the server frees the rows.
        """
        body = json_of(request.model_copy(update={"stream": True}))
        timeout = self._patience(request)
        with self._http.stream("POST", "/generate", json=body, headers=STREAM, timeout=timeout) as answer:
            for name, data in events_of(answer):
                match name:
                    case "piece":
                        yield valid(GeneratedPiece, data, answer)
                    case "done":
                        yield valid(GenerateAnswer, data, answer)
                        return
                    case "problem":
                        raise ProblemError.of(valid(Problem, data, answer))
        raise ProblemError(502, "stream-broken", "The server ended the stream before the answer was whole. Try again.")

    def rollback(self, to: int) -> Revision:
        """POST /rollback: the new revision."""
        return self._ask(Revision, "POST", "/rollback", body=RollbackRequest(to=to))

    def revert(self, edit_id: str) -> Reverted:
        """POST /edits/{id}/revert: a new revision without the edit."""
        return self._ask(Reverted, "POST", f"{path_of('edit', edit_id)}/revert")

    def reapply(self, edit_id: str) -> Revision:
        """POST /edits/{id}/reapply: a new revision with the edit in force again."""
        return self._ask(Revision, "POST", f"{path_of('edit', edit_id)}/reapply")

    def export(self, kind: ExportKind, out: Path, revision: str | int = "head", rank: int | None = None) -> Received:
        """GET /revisions/{r}/adapter or /checkpoint: to a new .tar, or into a new folder, as it comes.

        Raises UnpackingError if what comes is damaged, or has no place to go; then nothing is left there.
        """
        require_new(out)
        path = f"/revisions/{quote(str(revision), safe='')}/{kind}"
        timeout = httpx.Timeout(EXPORT_SECONDS, connect=CONNECT_SECONDS)
        try:
            with self._http.stream("GET", path, params=given(rank=rank), timeout=timeout) as answer:
                if answer.is_error:
                    answer.read()
                raise_for_problem(answer)
                receive(answer.iter_bytes(), out)
                return Received.of(answer)
        except httpx.RemoteProtocolError as error:
            raise ProblemError(
                502, "export-broken", "The server ended the export before it was whole; its log says why. Try again."
            ) from error

    def revision(self, number: int) -> Revision:
        """GET /revisions/{r}."""
        return self._ask(Revision, "GET", f"/revisions/{number}")

    def revisions(self, limit: int | None = None, before: int | None = None) -> RevisionPage:
        """GET /revisions: newest first."""
        return self._ask(RevisionPage, "GET", "/revisions", params=given(limit=limit, before=before))

    def model(self) -> ModelStatus:
        """GET /model."""
        return self._ask(ModelStatus, "GET", "/model")

    def methods(self) -> MethodList:
        """GET /methods."""
        return self._ask(MethodList, "GET", "/methods")

    def ready(self) -> Ready:
        """GET /ready; raises the problem that says why the head is not served."""
        return self._ask(Ready, "GET", "/ready")

    def _patience(self, request: GenerateRequest) -> httpx.Timeout:
        """The server says itself when a generation takes too long; a client that gave up before would not hear it."""
        seconds = (request.timeout or GENERATION_SECONDS) + SPARE_SECONDS
        return httpx.Timeout(max(self._timeout, seconds), connect=CONNECT_SECONDS)
