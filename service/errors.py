"""Every error that a client can see, as one exception that carries its problem."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Self

from service.contracts.problem import PROBLEM_TYPE, FieldError, Problem

REVISION_NOT_REACHED = "revision-not-reached"


class ProblemError(Exception):
    """An error with an HTTP status, a stable name and a sentence that says what to do."""

    def __init__(
        self,
        status: int,
        name: str,
        detail: str,
        *,
        errors: Iterable[FieldError] = (),
        retry_after: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(
            type=PROBLEM_TYPE + name,
            title=name.replace("-", " ").capitalize(),
            status=status,
            detail=detail,
            errors=tuple(errors),
        )
        self.retry_after = retry_after

    def told(self, request_id: str) -> Problem:
        """The problem of one request."""
        return self.problem.model_copy(update={"request_id": request_id})

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """The exception for a problem that came from elsewhere."""
        name = problem.type.removeprefix(PROBLEM_TYPE)
        soon = 1 if name == REVISION_NOT_REACHED else 5
        retry_after = soon if problem.status == HTTPStatus.SERVICE_UNAVAILABLE else None
        error = cls(problem.status, name, problem.detail, errors=problem.errors, retry_after=retry_after)
        error.problem = problem
        return error


def invalid(field: str, detail: str, name: str = "invalid-request") -> ProblemError:
    """422: one field is wrong."""
    return ProblemError(422, name, f"{field}: {detail}", errors=[FieldError(field=field, detail=detail)])


def not_found(what: str, where: str) -> ProblemError:
    """404: there is no such thing; `where` says where the ones that exist are listed."""
    return ProblemError(404, "not-found", f"There is no {what}. {where}")


def no_worker(model: str, detail: str) -> ProblemError:
    """503: the request needs a worker, and none is ready."""
    return ProblemError(503, "no-worker", f"No worker is ready for {model}: {detail}", retry_after=5)


def revision_not_reached(detail: str) -> ProblemError:
    """503: the revision that is asked for is on its way."""
    return ProblemError(503, REVISION_NOT_REACHED, detail, retry_after=1)


def no_redis() -> ProblemError:
    """503: Redis does not answer."""
    return ProblemError(
        503, "redis-unavailable", "Redis does not answer. Nothing was changed; try again.", retry_after=2
    )
