"""Turns every exception into the problem that the client sees, under /v1 in the shape of OpenAI's errors."""

from collections.abc import Sequence
from http import HTTPStatus
from itertools import islice
from typing import Any

from fastapi.exceptions import RequestValidationError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service.contracts.openai_answers import OpenAIError, OpenAIErrorAnswer
from service.contracts.problem import PROBLEM_TYPE, FieldError, Problem
from service.errors import ProblemError, no_redis
from service.wording import field_errors

MEDIA_TYPE = "application/problem+json"

OPENAI_PATHS = "/v1"
"""Where errors have OpenAI's shape."""

OPENAI_INVALID = HTTPStatus.BAD_REQUEST
"""What is 422 elsewhere."""

OPENAI_CODES = {
    "too_long": "context_length_exceeded",
    "key_missing": "invalid_api_key",
    "key_refused": "invalid_api_key",
    "rate_limited": "rate_limit_exceeded",
}
"""Problems that have a name of their own there."""

OPENAI_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": OpenAIErrorAnswer, "description": "The request is at fault."},
    "5XX": {"model": OpenAIErrorAnswer, "description": "The service is at fault, or busy."},
}
"""The same for the documentation."""

CHALLENGE = 'Bearer realm="palimpsest"'
"""How to say who asks (RFC 6750)."""

WHOLE_BODY = "body"
"""The field that is named where no single one is wrong."""

MAX_ERRORS = 20
"""Wrong fields named in one problem."""

HANDLED = (ProblemError, RequestValidationError, HTTPException, RedisConnectionError, RedisTimeoutError)
"""The exceptions that mean a certain problem; any other is a defect."""


async def render(request: Request, error: Exception) -> Response:
    """The one exception handler."""
    return problem_response(error, request.scope["path"], request.state.request_id)


def problem_response(error: Exception, path: str, request_id: str) -> Response:
    """The answer to a request that ended in `error`."""
    found = problem_of(error)
    problem = found.told(request_id)
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if found.retry_after is not None:
        headers["Retry-After"] = str(found.retry_after)
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = CHALLENGE
    if path == OPENAI_PATHS or path.startswith(f"{OPENAI_PATHS}/"):
        status = OPENAI_INVALID if problem.status == HTTPStatus.UNPROCESSABLE_ENTITY else problem.status
        return Response(openai_error(problem).model_dump_json(), status, headers, "application/json")
    return Response(problem.model_dump_json(), problem.status, headers, MEDIA_TYPE)


def openai_error(problem: Problem) -> OpenAIErrorAnswer:
    """The problem in the shape of OpenAI's errors."""
    code = problem.type.removeprefix(PROBLEM_TYPE).replace("-", "_")
    field = problem.errors[0].field if problem.errors else None
    return OpenAIErrorAnswer(
        error=OpenAIError(
            message=problem.detail,
            type="server_error" if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error",
            param=None if field == WHOLE_BODY else field,
            code=OPENAI_CODES.get(code, code),
        )
    )


def problem_of(error: Exception) -> ProblemError:
    """What a client is told of `error`."""
    match error:
        case ProblemError():
            return error
        case RequestValidationError():
            return _invalid(error.errors(), error.body)
        case HTTPException():
            return _http(error)
        case RedisConnectionError() | RedisTimeoutError():
            return no_redis()
        case _:
            return ProblemError(
                500, "internal-error", "The service failed at this request; its log has the details under request_id."
            )


def _http(error: HTTPException) -> ProblemError:
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            return ProblemError(404, "not-found", "There is nothing at this path. GET /docs shows every path.")
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return ProblemError(405, "method-not-allowed", "This path takes other methods; GET /docs shows them.")
        case HTTPStatus.BAD_REQUEST:
            return _not_json("it cannot be read")
        case HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
            return ProblemError(415, "encoded-body", error.detail)
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return ProblemError(413, "body-too-large", error.detail)
        case status:
            return ProblemError(status, f"http-{status}", error.detail)


def _not_json(why: str) -> ProblemError:
    detail = f"The body is not a JSON document in UTF-8: {why}. Correct it and send it again."
    return ProblemError(400, "invalid-json", detail, errors=[FieldError(field=WHOLE_BODY, detail=why)])


def _invalid(errors: Sequence[Any], body: Any) -> ProblemError:
    first = errors[0]
    if first["type"] == "json_invalid":
        return _not_json(f"{first['ctx']['error']} at {_position(body, first['loc'][-1])}")
    fields = list(islice(field_errors(map(_below, errors)), MAX_ERRORS))
    detail = "; ".join(f"{field.field}: {field.detail}" for field in fields)
    return ProblemError(422, "invalid-request", detail, errors=fields)


def _below(error: Any) -> Any:
    """Without the part of the request, such as "body", that a location begins with; unless that is all of it."""
    part, *below = error["loc"]
    if below:
        return {**error, "loc": below}
    whole = "must be a JSON object, sent with Content-Type: application/json"
    message = error["msg"] if error["type"] == "value_error" else whole
    return {**error, "loc": (part,), "type": "value_error", "msg": message}


def _position(body: Any, at: int) -> str:
    before = str(body)[:at]
    line = before.count("\n") + 1
    return f"line {line}, column {at - before.rfind(chr(10))} (character {at})"
