"""What a client raises: a problem, of a class of its own where a caller would catch it apart."""

from http import HTTPStatus
from typing import Any

import httpx

from service.contracts.jobs import Job
from service.contracts.problem import Problem
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
