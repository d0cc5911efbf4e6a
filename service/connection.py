"""How a client talks to a server: requests and event streams in the contracts' types, problems raised as they come."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from service.contracts.jobs import has_ended
from service.documents import Document
from service.errors import ProblemError
from service.events import parse_events
from service.failures import UnavailableError, UnreachableError, problem_in, refusal, unreachable
from service.retrying import after_answer, after_error, retry_after

Model = TypeVar("Model", bound=BaseModel)
Params = dict[str, Any]

SERVER = "http://127.0.0.1:8000"
"""Where `palimpsest up` listens."""

REOPEN_SECONDS = 1.0
"""How long to wait before a broken event stream is opened again."""

REOPEN_ATTEMPTS = 30
"""How often in a row a broken event stream is opened again before its error is raised."""

CONNECT_SECONDS = 5.0

STREAM = {"Accept": "text/event-stream"}


class Connection:
    """One server. What fails is raised as ProblemError, or one of its kinds in service/failures.py.

    retries: how often a request is sent again: any that has not left; and if it was lost on the way, or the server was
    busy (429) or not ready (503), one that does no harm if it arrives twice.
    """

    def __init__(self, server: str | None, api_key: str | None, timeout: float, retries: int) -> None:
        self.server = url_of(server or os.environ.get("PALIMPSEST_SERVER") or SERVER)
        self.timeout = timeout
        self._retries = retries
        key = api_key or os.environ.get("PALIMPSEST_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        waits = httpx.Timeout(timeout, connect=CONNECT_SECONDS)
        self.http = httpx.Client(base_url=self.server, headers=headers, timeout=waits)

    def ask(
        self,
        kind: type[Model],
        method: str,
        path: str,
        *,
        body: BaseModel | None = None,
        repeatable: bool | None = None,
        **options: Any,
    ) -> Model:
        """The answer to a request, as a contract. repeatable: see `Connection`; a GET is, if nothing else is said."""
        answer = self._whole(method, path, body, repeatable, options)
        return valid(kind, answer.content, answer)

    def load(self, path: str, **params: Any) -> bytes:
        """What a GET answers, as it is."""
        return self._whole("GET", path, None, None, {"params": params}).content

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        body: BaseModel | None = None,
        repeatable: bool | None = None,
        **options: Any,
    ) -> Iterator[httpx.Response]:
        """An answer that is no problem, its body yet to be read; once it has begun, nothing is sent again."""
        with self._told():
            answer = self._send(method, path, body, repeatable, options, stream=True)
            try:
                raise_for_problem(answer)
                yield answer
            finally:
                answer.close()

    def follow(self, kind: type[Document], path: str) -> Iterator[Document]:
        """A job at every change until it ends, from its stream of events, which is opened again when it breaks."""
        failures, most = 0, self._retries
        while True:
            try:
                for job in self._changes(kind, path):
                    failures, most = 0, REOPEN_ATTEMPTS
                    yield job
                    if has_ended(job.status):
                        return
                broken = f"{self.server} ended the events of {path[1:]} before it has ended. Try again."
                raise UnreachableError(503, "stream-broken", broken)
            except UnavailableError:
                failures += 1
                if failures > most:
                    raise
            time.sleep(REOPEN_SECONDS)

    def _changes(self, kind: type[Document], path: str) -> Iterator[Document]:
        with self.open("GET", f"{path}/events", headers=STREAM, repeatable=False) as answer:
            for event in parse_events(answer.iter_text()):
                yield kind.model_validate_json(event.data)

    def _whole(
        self, method: str, path: str, body: BaseModel | None, repeatable: bool | None, options: Params
    ) -> httpx.Response:
        with self._told():
            answer = self._send(method, path, body, repeatable, options)
        raise_for_problem(answer)
        return answer

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            raise unreachable(error, self.server) from error

    def _send(
        self,
        method: str,
        path: str,
        body: BaseModel | None,
        repeatable: bool | None,
        options: Params,
        *,
        stream: bool = False,
    ) -> httpx.Response:
        content = None if body is None else json_of(body)
        request = self.http.build_request(method, path, json=content, **options)
        harmless = method == "GET" if repeatable is None else repeatable
        for attempt in count():
            last = attempt >= self._retries
            try:
                answer = self.http.send(request, stream=stream)
            except httpx.TransportError as error:
                seconds = after_error(error, attempt, repeatable=harmless)
                if last or seconds is None:
                    raise
            else:
                seconds = after_answer(answer, attempt, repeatable=harmless)
                if last or seconds is None:
                    return answer
                answer.close()
            time.sleep(seconds)
        raise AssertionError("a count does not end")


def url_of(server: str) -> str:
    """A server's URL from what somebody has typed, who may leave `http://` out; ValueError if it is none."""
    whole = server if "://" in server else f"http://{server}"
    try:
        url = httpx.URL(whole)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"{server!r} is not the URL of a server; give one such as {SERVER}")
    return whole.rstrip("/")


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
    problem = problem_in(answer.read(), answer.status_code)
    if problem is None:
        raise not_palimpsest(answer)
    raise refusal(problem, retry_after(answer))


def not_palimpsest(answer: httpx.Response) -> ProblemError:
    """What is raised where something else answers."""
    return ProblemError(
        answer.status_code,
        "unexpected-answer",
        f"{answer.url} answered {answer.status_code}, but not as this version of Palimpsest does. "
        "Check the URL, and that server and client are of the same version.",
    )


def given(**values: Any) -> Params:
    """The parameters that have a value."""
    return {name: value for name, value in values.items() if value is not None}
