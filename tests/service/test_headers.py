"""Headers that every answer carries, whatever becomes of the request."""

import re

import httpx
import pytest
from redis import Redis

from service.apikeys import ApiKeys
from service.contracts.access import Scope
from service.headers import NOTHING, SecurityHeaders
from tests.service.stand_in import EIFFEL

HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


def policy(answer: httpx.Response) -> dict[str, str]:
    """The Content-Security-Policy of an answer, by directive."""
    parts = (part.strip().partition(" ") for part in answer.headers["Content-Security-Policy"].split(";"))
    return {name: value for name, _, value in parts}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/edits", 200),
        ("GET", "/ready", 503),
        ("GET", "/nowhere", 404),
        ("PUT", "/edits", 405),
        ("POST", "/edits", 422),
        ("GET", "/", 200),
        ("GET", "/docs", 200),
        ("GET", "/playground/nowhere.js", 404),
    ],
)
def test_every_answer_has_them(http: httpx.Client, method: str, path: str, status: int) -> None:
    answer = http.request(method, path)
    assert answer.status_code == status
    assert HEADERS.items() <= dict(answer.headers.multi_items()).items() or all(
        answer.headers[name] == value for name, value in HEADERS.items()
    )
    assert policy(answer)["frame-ancestors"] == "'none'"
    assert "Server" not in answer.headers
    assert "X-Powered-By" not in answer.headers


def test_refusals_have_them(http: httpx.Client, redis: Redis) -> None:
    assert http.post("/edits", content=b" " * 8_000_001).headers["Referrer-Policy"] == "no-referrer"
    ApiKeys(redis).create("ci", Scope.READ)
    refused = http.post("/edits", json=EIFFEL)
    assert refused.status_code == 401
    assert refused.headers["Content-Security-Policy"] == NOTHING


def test_data_is_no_page(http: httpx.Client) -> None:
    assert policy(http.get("/edits"))["default-src"] == "'none'"


def test_the_documentation_may_run_its_own_scripts_alone(http: httpx.Client) -> None:
    page = http.get("/docs")
    allowed = policy(page)
    assert re.search(r"<script>", page.text), "Swagger starts by a script within the page no longer: allow none"
    assert allowed["script-src"] == "'self' 'unsafe-inline'"
    assert not any("http" in value or "*" in value for value in allowed.values())


def test_the_page_keeps_its_own_policy(http: httpx.Client) -> None:
    assert policy(http.get("/"))["script-src"] == "'self'"


@pytest.mark.parametrize("media", ["image/svg+xml", "text/html; charset=utf-8"])
def test_pictures_and_reports_may_bring_styles_and_no_scripts(media: str) -> None:
    told = SecurityHeaders(None, "/docs")._policy("/traces/x.svg", media)  # type: ignore[arg-type]
    assert "style-src 'unsafe-inline'" in told
    assert "script-src" not in told
    assert told.startswith("default-src 'none'")
