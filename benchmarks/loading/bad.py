"""Requests that are at fault, each in one way, and the problem that each has to get."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx
from pydantic import ValidationError

from benchmarks.loading.checks import WrongAnswerError, require
from service.contracts.openai_answers import OpenAIErrorAnswer
from service.contracts.problem import PROBLEM_TYPE, Problem
from service.problems import MEDIA_TYPE, OPENAI_CODES, OPENAI_PATHS

NOWHERE = 10**12
"""A revision that no run comes to."""

NOBODY = "0123456789abcdef"
"""An edit that there is not."""

LONG = "7" * 19_000
"""More tokens than any small model's context has, in fewer characters than a text may have: digits stay apart."""

FACT: Mapping[str, Any] = {"prompt": "The Louvre is located in the city of", "subject": "The Louvre"}


class Bad(NamedTuple):
    """A request, and its problem: status, name, and the field at fault where there is one."""

    method: str
    path: str
    status: int
    name: str
    field: str | None = None
    body: Any = None
    content: bytes | None = None
    headers: Mapping[str, str] = {}


def bad_requests(model: str) -> tuple[Bad, ...]:
    """All of them, for a server of this model."""
    fact = {**FACT, "target_new": "Rome"}
    said = {"prompt": "A database is", "max_tokens": 1}
    json, asked = {"content-type": "application/json"}, ["A database is"]
    invalid = "invalid-request"
    return (
        Bad("POST", "/edits", 400, "invalid-json", "body", content=b'{"prompt": ', headers=json),
        Bad("POST", "/edits", 415, "encoded-body", content=b"\x1f\x8b", headers={**json, "content-encoding": "gzip"}),
        Bad("POST", "/edits", 422, invalid, "target_new", FACT),
        Bad("POST", "/edits", 422, invalid, "colour", {**fact, "colour": "red"}),
        Bad("POST", "/edits", 422, invalid, "subject", {**fact, "subject": "The Kremlin"}),
        Bad("POST", "/edits", 422, invalid, "facts", {"facts": []}),
        Bad("POST", "/edits", 422, "unknown-method", "method", {**fact, "method": "wishing"}),
        Bad("POST", "/edits", 422, "invalid-hparams", "hparams.layer", {**fact, "hparams": {"layer": 3}}),
        Bad("POST", "/edits", 409, "head-moved", "base_revision", {**fact, "base_revision": NOWHERE}),
        Bad("POST", f"/edits/{NOBODY}/revert", 404, "not-found"),
        Bad("POST", f"/edits/{NOBODY}/reapply", 404, "not-found"),
        Bad("GET", f"/edits/{NOBODY}", 404, "not-found"),
        Bad("DELETE", f"/edits/{NOBODY}", 404, "not-found"),
        Bad("GET", "/edits/..%2F..%2Fetc%2Fpasswd", 404, "not-found"),
        Bad("GET", "/edits?limit=0", 422, invalid, "limit"),
        Bad("GET", f"/revisions/{NOWHERE}", 404, "not-found"),
        Bad("GET", "/revisions/newest", 422, invalid, "revision"),
        Bad("DELETE", "/revisions/0", 405, "method-not-allowed"),
        Bad("POST", "/rollback", 404, "not-found", body={"to": NOWHERE}),
        Bad("POST", "/rollback", 422, invalid, "to", {"to": -1}),
        Bad("GET", "/generate", 422, invalid, "prompt"),
        Bad("POST", "/generate", 404, "not-found", body={"prompt": asked, "before": NOWHERE}),
        Bad("POST", "/generate", 422, invalid, "max_new_tokens", {"prompt": asked, "max_new_tokens": 10**6}),
        Bad("POST", "/generate", 422, "too-many", "prompt", {"prompt": asked * 60}),
        Bad("POST", "/generate", 422, "too-long", "prompt[0]", {"prompt": [LONG]}),
        Bad("POST", "/v1/completions", 404, "model-not-found", "model", {**said, "model": f"{model}@r{NOWHERE}"}),
        Bad("POST", "/v1/completions", 400, invalid, "temperature", {**said, "model": model, "temperature": 99}),
        Bad("GET", "/nowhere", 404, "not-found"),
    )


def ask_badly(http: httpx.Client, bad: Bad) -> None:
    """Send it; WrongAnswerError unless its answer is that problem."""
    content = {"content": bad.content} if bad.content is not None else {"json": bad.body} if bad.body else {}
    answer = http.request(bad.method, bad.path, headers=dict(bad.headers), **content)
    try:
        check_refusal(bad, answer)
    except WrongAnswerError as error:
        raise WrongAnswerError(f"{bad.method} {bad.path} wants {bad.name}: {error}") from None


def check_refusal(bad: Bad, answer: httpx.Response) -> None:
    """Status, media type, name, the first field at fault, and the id of the request."""
    told = f"{answer.status_code} {answer.headers.get('content-type')} {answer.text[:500]}"
    require(answer.status_code == bad.status, told)
    kind = answer.headers["content-type"]
    try:
        if bad.path.startswith(OPENAI_PATHS):
            error = OpenAIErrorAnswer.model_validate_json(answer.content).error
            code = bad.name.replace("-", "_")
            require(kind == "application/json" and error.code == OPENAI_CODES.get(code, code), told)
            require(error.param == bad.field and error.type == "invalid_request_error" and bool(error.message), told)
            return
        problem = Problem.model_validate_json(answer.content)
    except ValidationError:
        raise WrongAnswerError(told) from None
    require(kind == MEDIA_TYPE and problem.type == PROBLEM_TYPE + bad.name and problem.status == bad.status, told)
    require((problem.errors[0].field if problem.errors else None) == bad.field and bool(problem.detail), told)
    require(problem.request_id == answer.headers["x-request-id"], told)
