"""A client of the HTTP API: synchronous, typed by the contracts, with every problem raised as ProblemError."""

import time
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from service.contracts.edits import AnyEditRequest, Edit, EditPage
from service.contracts.evaluations import Evaluation, EvaluationPage, EvaluationRequest
from service.contracts.generate import GenerateAnswer, GeneratedPiece, GenerateRequest
from service.contracts.health import Ready
from service.contracts.jobs import has_ended
from service.contracts.model import MethodList, ModelStatus
from service.contracts.problem import Problem
from service.contracts.revisions import Reverted, Revision, RevisionPage, RollbackRequest
from service.documents import Document
from service.errors import ProblemError
from service.events import Event, parse_events

Model = TypeVar("Model", bound=BaseModel)

REOPEN_SECONDS = 1.0
"""How long to wait before a broken event stream is opened again."""

REOPEN_ATTEMPTS = 30
"""How often in a row a broken event stream is opened again before its error is raised."""

CONNECT_SECONDS = 5.0

GENERATION_SECONDS, SPARE_SECONDS = 600.0, 30.0
"""What a server may take for a generation whose request does not say; how much longer its answer is waited for."""

STREAM = {"Accept": "text/event-stream"}


class Client:
    """One server, by its base URL. Connection errors stay httpx.TransportError."""

    def __init__(self, base_url: str, timeout: float = 90.0) -> None:
        self.base_url = base_url.rstrip("/")
        self._timeout = timeout
        self._http = httpx.Client(base_url=self.base_url, timeout=httpx.Timeout(timeout, connect=CONNECT_SECONDS))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(self, request: AnyEditRequest, idempotency_key: str | None = None) -> Edit:
        """POST /edits: queue an edit of one fact or of a batch; of a batch the answer has the first facts only."""
        return self._ask(Edit, "POST", "/edits", body=request, headers=_once(idempotency_key))

    def edit(self, edit_id: str) -> Edit:
        """GET /edits/{id}: with all its facts."""
        return self._ask(Edit, "GET", _edit_path(edit_id))

    def edits(self, limit: int | None = None, before: int | None = None) -> EditPage:
        """GET /edits: newest first."""
        return self._ask(EditPage, "GET", "/edits", params=_given(limit=limit, before=before))

    def cancel(self, edit_id: str) -> Edit:
        """DELETE /edits/{id}."""
        return self._ask(Edit, "DELETE", _edit_path(edit_id))

    def events(self, edit_id: str) -> Iterator[Edit]:
        """GET /edits/{id}/events: the edit at every change until it ends; a broken stream is opened again.

        Of a batch it has the first facts only.
        """
        return self._follow(Edit, _edit_path(edit_id))

    def evaluate(self, request: EvaluationRequest, idempotency_key: str | None = None) -> Evaluation:
        """POST /evaluations: queue the scoring of facts at a revision; the answer has the first facts only."""
        return self._ask(Evaluation, "POST", "/evaluations", body=request, headers=_once(idempotency_key))

    def evaluation(self, evaluation_id: str) -> Evaluation:
        """GET /evaluations/{id}: with all its facts."""
        return self._ask(Evaluation, "GET", _evaluation_path(evaluation_id))

    def evaluations(self, limit: int | None = None, before: int | None = None) -> EvaluationPage:
        """GET /evaluations: newest first."""
        return self._ask(EvaluationPage, "GET", "/evaluations", params=_given(limit=limit, before=before))

    def cancel_evaluation(self, evaluation_id: str) -> Evaluation:
        """DELETE /evaluations/{id}."""
        return self._ask(Evaluation, "DELETE", _evaluation_path(evaluation_id))

    def evaluation_events(self, evaluation_id: str) -> Iterator[Evaluation]:
        """GET /evaluations/{id}/events: as `events`, of an evaluation."""
        return self._follow(Evaluation, _evaluation_path(evaluation_id))

    def generate(self, request: GenerateRequest) -> GenerateAnswer:
        """POST /generate: before and after, side by side. It is waited for as long as the server may take."""
        whole = request.model_copy(update={"stream": False})
        return self._ask(GenerateAnswer, "POST", "/generate", body=whole, timeout=self._patience(request))

    def stream(self, request: GenerateRequest) -> Generator[GeneratedPiece | GenerateAnswer, None, None]:
        """POST /generate with stream=true: what each side says as it comes, and last the whole answer.

        Whoever closes the iterator, or lets it go, closes the connection, and the server frees the rows.
        """
        body = _json(request.model_copy(update={"stream": True}))
        timeout = self._patience(request)
        with self._http.stream("POST", "/generate", json=body, headers=STREAM, timeout=timeout) as answer:
            for name, data in _events(answer):
                match name:
                    case "piece":
                        yield _valid(GeneratedPiece, data, answer)
                    case "done":
                        yield _valid(GenerateAnswer, data, answer)
                        return
                    case "problem":
                        raise ProblemError.of(_valid(Problem, data, answer))
        raise ProblemError(502, "stream-broken", "The server ended the stream before the answer was whole. Try again.")

    def rollback(self, to: int) -> Revision:
        """POST /rollback: the new revision."""
        return self._ask(Revision, "POST", "/rollback", body=RollbackRequest(to=to))

    def revert(self, edit_id: str) -> Reverted:
        """POST /edits/{id}/revert: a new revision without the edit."""
        return self._ask(Reverted, "POST", f"{_edit_path(edit_id)}/revert")

    def reapply(self, edit_id: str) -> Revision:
        """POST /edits/{id}/reapply: a new revision with the edit in force again."""
        return self._ask(Revision, "POST", f"{_edit_path(edit_id)}/reapply")

    def revision(self, number: int) -> Revision:
        """GET /revisions/{r}."""
        return self._ask(Revision, "GET", f"/revisions/{number}")

    def revisions(self, limit: int | None = None, before: int | None = None) -> RevisionPage:
        """GET /revisions: newest first."""
        return self._ask(RevisionPage, "GET", "/revisions", params=_given(limit=limit, before=before))

    def model(self) -> ModelStatus:
        """GET /model."""
        return self._ask(ModelStatus, "GET", "/model")

    def methods(self) -> MethodList:
        """GET /methods."""
        return self._ask(MethodList, "GET", "/methods")

    def ready(self) -> Ready:
        """GET /ready; raises the problem that says why the head is not served."""
        return self._ask(Ready, "GET", "/ready")

    def _ask(
        self,
        kind: type[Model],
        method: str,
        path: str,
        *,
        body: BaseModel | None = None,
        params: dict[str, int] | None = None,
        headers: dict[str, str] | None = None,
        timeout: httpx.Timeout | None = None,
    ) -> Model:
        content = None if body is None else _json(body)
        waits = timeout or self._http.timeout
        answer = self._http.request(method, path, json=content, params=params, headers=headers, timeout=waits)
        _raise_for_problem(answer)
        return _valid(kind, answer.content, answer)

    def _patience(self, request: GenerateRequest) -> httpx.Timeout:
        """The server says itself when a generation takes too long; a client that gave up before would not hear it."""
        seconds = (request.timeout or GENERATION_SECONDS) + SPARE_SECONDS
        return httpx.Timeout(max(self._timeout, seconds), connect=CONNECT_SECONDS)

    def _follow(self, kind: type[Document], path: str) -> Iterator[Document]:
        failures = 0
        while True:
            try:
                for job in self._stream(kind, path):
                    failures = 0
                    yield job
                    if has_ended(job.status):
                        return
                failures += 1
            except httpx.TransportError:
                failures += 1
                if failures > REOPEN_ATTEMPTS:
                    raise
            time.sleep(REOPEN_SECONDS)

    def _stream(self, kind: type[Document], path: str) -> Iterator[Document]:
        with self._http.stream("GET", f"{path}/events", headers=STREAM) as answer:
            for event in _events(answer):
                yield kind.model_validate_json(event.data)


def _events(answer: httpx.Response) -> Iterator[Event]:
    if answer.is_error:
        answer.read()
    _raise_for_problem(answer)
    return parse_events(answer.iter_text())


def _json(body: BaseModel) -> dict[str, Any]:
    return body.model_dump(mode="json", exclude_defaults=True)


def _valid(kind: type[Model], content: str | bytes, answer: httpx.Response) -> Model:
    try:
        return kind.model_validate_json(content)
    except ValidationError:
        raise _not_palimpsest(answer) from None


def _raise_for_problem(answer: httpx.Response) -> None:
    if answer.is_success:
        return
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError:
        raise _not_palimpsest(answer) from None
    raise ProblemError.of(problem)


def _not_palimpsest(answer: httpx.Response) -> ProblemError:
    return ProblemError(
        answer.status_code,
        "unexpected-answer",
        f"{answer.url} answered {answer.status_code}, but not as this version of Palimpsest does. "
        "Check the URL, and that server and client are of the same version.",
    )


def _edit_path(edit_id: str) -> str:
    return f"/edits/{quote(edit_id, safe='')}"


def _evaluation_path(evaluation_id: str) -> str:
    return f"/evaluations/{quote(evaluation_id, safe='')}"


def _once(idempotency_key: str | None) -> dict[str, str] | None:
    return {"Idempotency-Key": idempotency_key} if idempotency_key else None


def _given(**values: int | None) -> dict[str, int]:
    return {name: value for name, value in values.items() if value is not None}
