"""The exit codes of `palimpsest`, so that scripts can tell what to do next (docs/cli.md)."""

from enum import IntEnum
from http import HTTPStatus

from pydantic import ValidationError

from service.errors import ProblemError
from service.facts import FactsError
from service.failures import JobFailedError, UnavailableError


class Exit(IntEnum):
    """How a command has ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 3
    NOT_FOUND = 4
    CONFLICT = 5
    REFUSED = 6
    INTERRUPTED = 130


OF_STATUS: dict[int, Exit] = {
    HTTPStatus.UNPROCESSABLE_ENTITY: Exit.USAGE,
    HTTPStatus.UNAUTHORIZED: Exit.REFUSED,
    HTTPStatus.FORBIDDEN: Exit.REFUSED,
    HTTPStatus.NOT_FOUND: Exit.NOT_FOUND,
    HTTPStatus.CONFLICT: Exit.CONFLICT,
}


def exit_of(error: Exception) -> Exit:
    """The exit code for what went wrong: mend the request (2), try again later (3), or else look."""
    match error:
        case JobFailedError():
            return Exit.FAILED
        case UnavailableError():
            return Exit.UNAVAILABLE
        case ProblemError():
            return OF_STATUS.get(error.problem.status, Exit.FAILED)
        case FactsError() | ValidationError():
            return Exit.USAGE
        case _:
            return Exit.FAILED
