"""A client of the HTTP API: synchronous, typed by the contracts, with every problem raised as ProblemError."""

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from service.connection import CONNECT_SECONDS, STREAM, Connection, given, not_palimpsest, valid
from service.contracts.benchmarks import Benchmark, BenchmarkPage, BenchmarkRequest
from service.contracts.edits import AnyEditRequest, BatchRequest, Edit, EditPage, EditRequest
from service.contracts.evaluations import Evaluation, EvaluationPage, EvaluationRequest
from service.contracts.exports import ExportKind
from service.contracts.generate import GenerateAnswer, GeneratedPiece, GenerateRequest, Message
from service.contracts.health import Ready
from service.contracts.model import MethodList, ModelStatus
from service.contracts.openai import ChatRequest
from service.contracts.openai_answers import ChatChunk
from service.contracts.problem import Problem
from service.contracts.revisions import Reverted, Revision, RevisionPage, RollbackRequest
from service.contracts.traces import Trace, TracePage, TraceRequest
from service.errors import ProblemError
from service.events import parse_events
from service.failures import UnreachableError, problem_in, refusal
from service.jobcalls import LARGEST_PAGE, BenchmarkCalls, JobCalls, TraceCalls, id_of
from service.unpacking import receive, require_new

GENERATION_SECONDS, SPARE_SECONDS = 600.0, 30.0
"""What a server may take for a generation whose request does not say; how much longer its answer is waited for."""

EXPORT_SECONDS = 360.0
"""How long the next piece of an export is waited for: longer than the server waits for it."""

Prompts = GenerateRequest | str | Sequence[str] | None
"""What is to be continued: a prompt, some, or a whole request."""


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


class RevisionCalls:
    """The revisions of a server."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, revision: int | str) -> Revision:
        """GET /revisions/{r}, written 3 or r3: with all its edits in force. Raises NotFoundError."""
        return self._connection.ask(Revision, "GET", f"/revisions/{quote(str(revision), safe='')}")

    def page(self, limit: int | None = None, before: int | None = None) -> RevisionPage:
        """GET /revisions: up to `limit` (by default 20, at most 100), newest first; its `next` is the next `before`."""
        return self._connection.ask(RevisionPage, "GET", "/revisions", params=given(limit=limit, before=before))

    def all(self, at_once: int = LARGEST_PAGE) -> Iterator[Revision]:
        """Every revision, newest first, asked for `at_once` as they are looked at."""
        page = self.page(at_once)
        yield from page.revisions
        while page.next is not None:
            page = self.page(at_once, page.next)
            yield from page.revisions


class Palimpsest:
    """One server.

        with Palimpsest("http://127.0.0.1:8000") as p:
            edit = p.edit(prompt="The capital of France is", subject="France", target_new="Rome")
            print(p.generate("The capital of France is", before="base", after=edit.revision).results[0].after.text)

    server: its URL; by default that in PALIMPSEST_SERVER, or else where `palimpsest up` listens. ValueError: no URL.
    api_key: sent as a bearer token; by default that in PALIMPSEST_API_KEY. timeout: seconds that an answer may take; of
    generations and exports more. retries: how often a request is sent again where that is safe (see `Connection`).

    Every call raises ProblemError where the server refuses it, with its `problem`; NotFoundError (404), ConflictError
    (409), UnavailableError (503, 429: busy or not ready) and UnreachableError (nobody answers) are kinds of it, all
    in service/failures.py.
    """

    def __init__(
        self, server: str | None = None, api_key: str | None = None, *, timeout: float = 90.0, retries: int = 3
    ) -> None:
        self._connection = Connection(server, api_key, timeout, retries)
        self.server = self._connection.server
        connection = self._connection
        self.edits = JobCalls[EditRequest | BatchRequest, Edit, EditPage](connection, AnyEditRequest, Edit, EditPage)
        self.evaluations = JobCalls[EvaluationRequest, Evaluation, EvaluationPage](
            connection, EvaluationRequest, Evaluation, EvaluationPage
        )
        self.traces = TraceCalls(connection, TraceRequest, Trace, TracePage)
        self.benchmarks = BenchmarkCalls(connection, BenchmarkRequest, Benchmark, BenchmarkPage)
        self.revisions = RevisionCalls(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connection.http.close()

    def edit(self, request: EditRequest | BatchRequest | None = None, /, **fields: Any) -> Edit:
        """Rewrite one fact (prompt, subject, target_new, ...) or many (facts), and wait until that is done.

        The fields are those of EditRequest and BatchRequest in service/contracts/edits.py, unless `request` has them.
        Returns the edit with its `revision` and `outcome`. Raises JobFailedError if it fails or is rejected, and what
        `edits.submit` does. To go on without waiting: `edits.submit`; to watch: `edits.events`.
        """
        return self.edits.run(request, **fields)

    def evaluate(self, request: EvaluationRequest | None = None, /, **fields: Any) -> Evaluation:
        """Score facts (`facts`; by default those of the edits in force) at a `revision`, and wait for the `result`.

        As `edit`, with the fields of EvaluationRequest in service/contracts/evaluations.py.
        """
        return self.evaluations.run(request, **fields)

    def trace(self, request: TraceRequest | None = None, /, **fields: Any) -> Trace:
        """Trace where the answer to a `prompt` about a `subject` comes from, and wait for the `result`.

        As `edit`, with the fields of TraceRequest in service/contracts/traces.py; drawn by `traces.picture`.
        """
        return self.traces.run(request, **fields)

    def bench(self, request: BenchmarkRequest | None = None, /, **fields: Any) -> Benchmark:
        """Compare `methods` on a `dataset`, which leaves the head as it is, and wait for the `result`.

        As `edit`, with the fields of BenchmarkRequest in service/contracts/benchmarks.py; told by `benchmarks.report`.
        """
        return self.benchmarks.run(request, **fields)

    def generate(self, prompt: Prompts = None, **fields: Any) -> GenerateAnswer:
        """POST /generate: each prompt continued before and after, side by side, in `results`.

        prompt: one, or several, or a whole request; further fields are those of GenerateRequest in
        service/contracts/generate.py: before, after, max_new_tokens, ..., or messages instead of a prompt. It is waited
        for as long as the server may take.
        """
        request = _request(prompt, fields).model_copy(update={"stream": False})
        timeout = self._patience(request.timeout)
        return self._connection.ask(GenerateAnswer, "POST", "/generate", body=request, timeout=timeout, repeatable=True)

    def stream(self, prompt: Prompts = None, **fields: Any) -> Generator[GeneratedPiece | GenerateAnswer, None, None]:
        """As `generate`, with stream=true: what each side says as it comes, and last the whole answer.

        Whoever closes the iterator, or lets it go, closes the connection, and the server frees the rows.
        """
        request = _request(prompt, fields).model_copy(update={"stream": True})
        options = {"headers": STREAM, "timeout": self._patience(request.timeout)}
        with self._connection.open("POST", "/generate", body=request, repeatable=True, **options) as answer:
            for name, data in parse_events(answer.iter_text()):
                match name:
                    case "piece":
                        yield valid(GeneratedPiece, data, answer)
                    case "done":
                        yield valid(GenerateAnswer, data, answer)
                        return
                    case "problem":
                        raise refusal(valid(Problem, data, answer))
        raise _broken_stream()

    def chat(
        self, messages: Sequence[Message | Mapping[str, str]], revision: int | str = "head", **fields: Any
    ) -> Generator[ChatChunk, None, None]:
        """POST /v1/chat/completions: what one revision answers to a conversation, as it comes.

        Further fields are those of ChatRequest in service/contracts/openai.py: max_tokens, temperature, seed, ... The
        text of a chunk is `choices[0].delta.content`, where there is any; `system_fingerprint` is the revision.
        Whoever closes the iterator, or lets it go, closes the connection.
        """
        name, number = self.model().card.name, re.sub(r"^(?=\d)", "r", str(revision))
        said = [message if isinstance(message, Mapping) else message.model_dump() for message in messages]
        model = name if number == "head" else f"{name}@{number}"
        request = ChatRequest.model_validate({"model": model, "messages": said, "stream": True, **fields})
        with self._connection.open(
            "POST", "/v1/chat/completions", body=request, repeatable=True, headers=STREAM, timeout=self._patience(None)
        ) as answer:
            for _, data in parse_events(answer.iter_text()):
                if data == "[DONE]":
                    return
                problem = problem_in(data, HTTPStatus.BAD_GATEWAY)
                if problem is not None:
                    raise refusal(problem)
                yield valid(ChatChunk, data, answer)
        raise _broken_stream()

    def rollback(self, to: int | str) -> Revision:
        """POST /rollback: a new revision with the edits of an old one, 3 or r3, in force again; it becomes the head.

        Sent once only, as `revert` and `reapply` are. Raises NotFoundError.
        """
        body = RollbackRequest.model_validate({"to": to})
        return self._connection.ask(Revision, "POST", "/rollback", body=body)

    def revert(self, edit: Edit | str) -> Reverted:
        """POST /edits/{id}/revert: a new revision without this edit, and which edits were computed with it in force.

        Raises NotFoundError, or ConflictError if it is not in force.
        """
        return self._connection.ask(Reverted, "POST", f"/edits/{quote(id_of(edit), safe='')}/revert")

    def reapply(self, edit: Edit | str) -> Revision:
        """POST /edits/{id}/reapply: a new revision with a reverted edit in force again. Raises as `revert` does."""
        return self._connection.ask(Revision, "POST", f"/edits/{quote(id_of(edit), safe='')}/reapply")

    def export(self, kind: ExportKind, out: Path, revision: str | int = "head", rank: int | None = None) -> Received:
        """GET /revisions/{r}/adapter or /checkpoint: to a new .tar, or into a new folder, as it comes.

        Raises UnpackingError if what comes is damaged, or has no place to go; then nothing is left there.
        """
        require_new(out)
        path = f"/revisions/{quote(str(revision), safe='')}/{kind}"
        timeout = httpx.Timeout(EXPORT_SECONDS, connect=CONNECT_SECONDS)
        try:
            with self._connection.open("GET", path, params=given(rank=rank), timeout=timeout) as answer:
                receive(answer.iter_bytes(), out)
                return Received.of(answer)
        except UnreachableError as error:
            if not isinstance(error.__cause__, httpx.RemoteProtocolError):
                raise
            raise ProblemError(
                502, "export-broken", "The server ended the export before it was whole; its log says why. Try again."
            ) from error

    def model(self) -> ModelStatus:
        """GET /model: the resident model, the head, the edited layers, the workers."""
        return self._connection.ask(ModelStatus, "GET", "/model")

    def methods(self) -> MethodList:
        """GET /methods: how the resident model can be edited; of each method the schema and defaults of its hparams."""
        return self._connection.ask(MethodList, "GET", "/methods")

    def ready(self) -> Ready:
        """GET /ready: who serves the head; raises UnavailableError at once, which says why nobody does."""
        return self._connection.ask(Ready, "GET", "/ready", repeatable=False)

    def _patience(self, given: float | None) -> httpx.Timeout:
        """The server says itself when a generation takes too long; a client that gave up before would not hear it."""
        seconds = (given or GENERATION_SECONDS) + SPARE_SECONDS
        return httpx.Timeout(max(self._connection.timeout, seconds), connect=CONNECT_SECONDS)


def _broken_stream() -> ProblemError:
    return ProblemError(502, "stream-broken", "The server ended the stream before the answer was whole. Try again.")


def _request(prompt: Prompts, fields: dict[str, Any]) -> GenerateRequest:
    if isinstance(prompt, GenerateRequest):
        if fields:
            raise TypeError("give a request, or the fields of one, and not both")
        return prompt
    prompts = (prompt,) if isinstance(prompt, str) else tuple(prompt or ())
    return GenerateRequest.model_validate({"prompt": prompts, **fields})
