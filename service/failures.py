"""What a client raises: a problem, of a class of its own where a caller would catch it apart."""

from contextlib import suppress
from http import HTTPStatus
from typing import Any

import httpx
from pydantic import ValidationError

from service.contracts.jobs import Job
from service.contracts.openai_answers import OpenAIErrorAnswer
from service.contracts.problem import FieldError, Problem
from service.errors import ProblemError


class NotFoundError(ProblemError):
    """404: there is no such edit, revision, or other thing."""


class ConflictError(ProblemError):
    """409: it cannot be done as things stand, such as cancelling what has ended."""


class UnavailableError(ProblemError):
    """503 or 429: not now. `retry_after` has the seconds after which it may be, where the server names them."""


class UnreachableError(UnavailableError):
    """No server answers; what it was asked for may have been done all the same, if the connection broke later."""


class JobFailedError(ProblemError):
    """A job that was waited for ended otherwise than well; `job` is how it ended."""

    job: Job[Any]


APART: dict[int, type[ProblemError]] = {
    HTTPStatus.NOT_FOUND: NotFoundError,
    HTTPStatus.CONFLICT: ConflictError,
    HTTPStatus.TOO_MANY_REQUESTS: UnavailableError,
    HTTPStatus.SERVICE_UNAVAILABLE: UnavailableError,
}


def problem_in(content: str | bytes, status: int) -> Problem | None:
    """The problem that a server's words are, in its own shape or, as under /v1, in that of OpenAI's errors."""
    with suppress(ValidationError):
        return Problem.model_validate_json(content)
    with suppress(ValidationError):
        error = OpenAIErrorAnswer.model_validate_json(content).error
        name = (error.code or "refused").replace("_", "-")
        fields = [FieldError(field=error.param, detail=error.message)] if error.param else []
        same = HTTPStatus.UNPROCESSABLE_ENTITY if status == HTTPStatus.BAD_REQUEST else status
        return ProblemError(same, name, error.message, errors=fields).problem
    return None


def refusal(problem: Problem, retry_after: int | None = None) -> ProblemError:
    """The exception for a problem that a server answered with."""
    error = APART.get(problem.status, ProblemError).of(problem)
    error.retry_after = retry_after or error.retry_after
    return error


def job_failure(job: Job[Any]) -> JobFailedError:
    """The exception for a job that has ended otherwise than well."""
    if job.problem is None:
        detail = f"{job.noun.capitalize()} {job.id} is {job.status}; ask again for what it was to do."
        error = JobFailedError(409, f"{job.noun}-{job.status}", detail)
    else:
        error = JobFailedError.of(job.problem)
    error.job = job
    return error


def unreachable(error: httpx.TransportError, server: str) -> UnreachableError:
    """The exception for a connection that failed."""
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout():
            detail = f"There is no server at {server}; start one with: palimpsest up, or name another."
        case httpx.TimeoutException():
            detail = f"The server at {server} did not answer in time; GET /ready says whether it can. Try again."
        case _:
            detail = f"The connection to {server} broke ({error}). Try again."
    return UnreachableError(503, "unreachable", detail)
