"""How a client talks to a server: requests and event streams in the contracts' types, problems raised as they come."""

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from service.contracts.jobs import has_ended
from service.contracts.problem import Problem
from service.documents import Document
from service.errors import ProblemError
from service.events import Event, parse_events

Model = TypeVar("Model", bound=BaseModel)

REOPEN_SECONDS = 1.0
"""How long to wait before a broken event stream is opened again."""

REOPEN_ATTEMPTS = 30
"""How often in a row a broken event stream is opened again before its error is raised."""

CONNECT_SECONDS = 5.0

STREAM = {"Accept": "text/event-stream"}


class Connection:
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
        content = None if body is None else json_of(body)
        waits = timeout or self._http.timeout
        answer = self._http.request(method, path, json=content, params=params, headers=headers, timeout=waits)
        raise_for_problem(answer)
        return valid(kind, answer.content, answer)

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
            for event in events_of(answer):
                yield kind.model_validate_json(event.data)


def events_of(answer: httpx.Response) -> Iterator[Event]:
    """The events of a stream, as they come."""
    if answer.is_error:
        answer.read()
    raise_for_problem(answer)
    return parse_events(answer.iter_text())


def json_of(body: BaseModel) -> dict[str, Any]:
    """What is sent of a contract."""
    return body.model_dump(mode="json", exclude_defaults=True)


def valid(kind: type[Model], content: str | bytes, answer: httpx.Response) -> Model:
    """What a server has sent, or the problem that it is not of this version."""
    try:
        return kind.model_validate_json(content)
    except ValidationError:
        raise not_palimpsest(answer) from None


def raise_for_problem(answer: httpx.Response) -> None:
    """Raise the problem that an answer is, if it is one."""
    if answer.is_success:
        return
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError:
        raise not_palimpsest(answer) from None
    raise ProblemError.of(problem)


def not_palimpsest(answer: httpx.Response) -> ProblemError:
    """What is raised where something else answers."""
    return ProblemError(
        answer.status_code,
        "unexpected-answer",
        f"{answer.url} answered {answer.status_code}, but not as this version of Palimpsest does. "
        "Check the URL, and that server and client are of the same version.",
    )


def path_of(noun: str, job_id: str) -> str:
    """The path of a job."""
    return f"/{noun}s/{quote(job_id, safe='')}"


def once(idempotency_key: str | None) -> dict[str, str] | None:
    """The header that makes a request repeatable."""
    return {"Idempotency-Key": idempotency_key} if idempotency_key else None


def given(**values: int | None) -> dict[str, int]:
    """The parameters that have a value."""
    return {name: value for name, value in values.items() if value is not None}
