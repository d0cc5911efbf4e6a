"""What holds for every route: problems, ids, limits, documentation."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter
from redis import Redis

from service.app import create_app
from service.contracts.edits import AnyEditRequest, BatchRequest, EditRequest
from service.keys import Keys
from service.settings import Settings
from tests.service.stand_in import EIFFEL, StandIn

Contents = Callable[[], dict[str, bytes | None]]

LONG = "word " * 100


def edit_json(**changes: Any) -> bytes:
    """The body of an edit, in ASCII, so that lone surrogates are escapes."""
    return json.dumps({**EIFFEL, **changes}).encode()


BAD_EDITS: dict[str, tuple[dict[str, Any], str, str]] = {
    "subject not in prompt": ({"subject": "Big Ben"}, "subject", "must occur in the prompt"),
    "subject in another case": ({"subject": "the eiffel tower"}, "subject", "same case"),
    "empty subject": ({"subject": ""}, "subject", "must not be empty"),
    "empty prompt": ({"prompt": ""}, "prompt", "must not be empty"),
    "blank target": ({"target_new": " "}, "target_new", "white space"),
    "no target": ({"target_new": None}, "target_new", "string"),
    "prompt ends with a space": ({"prompt": EIFFEL["prompt"] + " "}, "prompt", "must not end with a space"),
    "same targets": ({"target_true": "Rome"}, "target_true", "must differ"),
    "NUL in prompt": ({"prompt": "The Eiffel Tower\0 is"}, "prompt", "NUL"),
    "NUL in a paraphrase": ({"paraphrases": ["fine", "a\0"]}, "paraphrases[1]", "NUL"),
    "NUL in hparams": ({"hparams": {"v_lr": "\0"}}, "hparams", "NUL"),
    "NUL in method": ({"method": "rome\0"}, "method", "match"),
    "surrogate in target": ({"target_new": "\ud800"}, "target_new", "surrogates"),
    "surrogate in hparams": ({"hparams": {"\ud800": 1}}, "hparams", "surrogates"),
    "surrogate in method": ({"method": "\ud800"}, "method", "surrogates"),
    "surrogate as a field": ({"\ud800": 1}, "body", "JSON object"),
    "unknown method": ({"method": "remember"}, "method", "is not a method of this worker; it has: rome"),
    "unknown field": ({"target": "Rome"}, "target", "is not a known field"),
    "hparams of the wrong type": ({"hparams": 3}, "hparams", "dictionary"),
    "a hyperparameter of the wrong type": ({"hparams": {"v_lr": "fast"}}, "hparams.v_lr", "is not of type 'number'"),
    "a hyperparameter out of range": ({"hparams": {"v_lr": -1}}, "hparams.v_lr", "minimum"),
    "an unknown hyperparameter": ({"hparams": {"v_rl": 1}}, "hparams.v_rl", "GET /methods"),
    "an infinite hyperparameter": ({"hparams": {"v_lr": float("inf")}}, "hparams", "finite"),
    "prompt longer than the context": ({"prompt": f"The Eiffel Tower {LONG}is"}, "prompt", "shorten it"),
    "paraphrase longer than the context": ({"paraphrases": [LONG]}, "paraphrases[0]", "shorten it"),
    "text beyond the limit": ({"target_new": "x" * 20_001}, "target_new", "20000"),
    "a nonsense revision": ({"base_revision": "last"}, "base_revision", "3 or r3"),
}


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("case", BAD_EDITS)
def test_a_bad_edit_changes_nothing(http: httpx.Client, contents: Contents, case: str) -> None:
    changes, field, words = BAD_EDITS[case]
    before = contents()
    answer = http.post("/edits", content=edit_json(**changes), headers={"Content-Type": "application/json"})
    problem = answer.json()
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem["errors"][0]["field"] == field
    assert words in problem["errors"][0]["detail"]
    assert field in problem["detail"]
    assert words in problem["detail"]
    assert problem["type"].startswith("urn:palimpsest:problem:")
    assert problem["status"] == 422
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    assert contents() == before


BAD_BODIES = {
    "broken": (b'{"prompt": "a",\n "subject" "a"}', "line 2, column 12"),
    "cut off": (b'{"prompt": ', "Expecting value"),
    "not UTF-8": (b'{"prompt": "\xff"}', "cannot be read"),
    "nested without end": (b"[" * 100_000, "cannot be read"),
    "a number without end": (b"9" * 10_000, "cannot be read"),
}


@pytest.mark.parametrize("case", BAD_BODIES)
def test_a_body_that_is_not_json(http: httpx.Client, contents: Contents, case: str) -> None:
    body, words = BAD_BODIES[case]
    answer = http.post("/edits", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:palimpsest:problem:invalid-json"
    assert answer.json()["errors"][0]["field"] == "body"
    assert words in answer.json()["detail"]
    assert contents() == {}


@pytest.mark.parametrize(
    "headers", [{}, {"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}]
)
def test_a_body_that_is_not_declared_as_json(http: httpx.Client, headers: dict[str, str]) -> None:
    answer = http.post("/edits", content=edit_json(), headers=headers)
    assert answer.status_code == 422
    assert "Content-Type: application/json" in answer.json()["detail"]
    assert http.post("/edits").status_code == 422


def test_a_body_whose_fields_do_not_go_together(http: httpx.Client) -> None:
    answer = http.post("/generate", json={"prompt": ["a"], "messages": [{"role": "user", "content": "a"}]})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"field": "body", "detail": "give either prompt or messages, and not both"},
    ]


def test_invented_fields_are_told_in_moderation(http: httpx.Client) -> None:
    answer = http.post("/edits", json={**EIFFEL, **{f"{number}{'x' * 1000}": 1 for number in range(100)}})
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 20
    assert len(answer.content) < 10_000


def megabytes() -> Iterator[bytes]:
    for _ in range(160):
        yield b" " * 65_536


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_beyond_the_limit(http: httpx.Client, contents: Contents, chunked: bool) -> None:
    content = megabytes() if chunked else b" " * 10_485_760
    answer = http.post("/edits", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["type"].endswith(":body-too-large")
    assert "8000000 bytes" in answer.json()["detail"]
    assert contents() == {}
    assert http.get("/health").status_code == 200


def test_unknown_paths_and_methods(http: httpx.Client) -> None:
    missing = http.get("/edit")
    assert missing.status_code == 404
    assert missing.json()["type"].endswith(":not-found")
    wrong = http.put("/rollback")
    assert wrong.status_code == 405
    assert wrong.headers["Allow"] == "POST"
    assert wrong.json()["type"].endswith(":method-not-allowed")


@pytest.mark.parametrize(("given", "kept"), [("a-b_c.1", True), ("x" * 65, False), ("two words", False), ("", False)])
def test_request_ids(http: httpx.Client, given: str, kept: bool) -> None:
    told = http.get("/edits", headers={"X-Request-Id": given}).headers["X-Request-Id"]
    assert (told == given) is kept
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", told)


def test_every_answer_about_the_model_names_the_head(http: httpx.Client, worker: StandIn) -> None:
    for path in ("/edits", "/edits/0123456789abcdef", "/evaluations", "/revisions", "/model", "/methods"):
        assert http.get(path).headers["X-Model-Revision"] == "0", path
    assert http.post("/edits", content=b"{").headers["X-Model-Revision"] == "0"
    assert "X-Model-Revision" not in http.get("/openapi.json").headers
    worker.die()
    assert http.get("/generate?prompt=a").headers["X-Model-Revision"] == "0"


def test_a_defect_is_a_problem_without_a_traceback(
    http: httpx.Client, redis: Redis, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    redis.set(keys.card, "not a card")
    answer = http.get("/model", headers={"X-Request-Id": "find-me"})
    assert answer.status_code == 500
    assert answer.json()["request_id"] == "find-me"
    assert "Traceback" not in answer.text
    assert "validation error" not in answer.text
    assert "find-me" in caplog.text
    assert "not a card" in caplog.text


def test_the_documentation_loads_nothing_from_elsewhere(http: httpx.Client) -> None:
    page = http.get("/docs")
    assert page.status_code == 200
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert links
    for link in links:
        assert link.startswith("/")
        assert http.get(link).status_code == 200
    assert http.get("/redoc").status_code == 404


def test_openapi_is_complete() -> None:
    schema = create_app(Settings(redis_url="redis://nowhere")).openapi()
    text = json.dumps(schema)
    for name in set(re.findall(r'"#/components/schemas/([^"]+)"', text)):
        assert name in schema["components"]["schemas"]
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            assert operation["tags"], (method, path)
            assert operation["summary"], (method, path)
            error = "application/json" if path.startswith("/v1/") else "application/problem+json"
            for status in ("4XX", "5XX"):
                assert list(operation["responses"][status]["content"]) == [error]
            assert "422" not in operation["responses"]
    assert set(schema["paths"]) == {
        "/edits",
        "/edits/{edit_id}",
        "/edits/{edit_id}/events",
        "/edits/{edit_id}/revert",
        "/edits/{edit_id}/reapply",
        "/evaluations",
        "/evaluations/{evaluation_id}",
        "/evaluations/{evaluation_id}/events",
        "/traces",
        "/traces/{trace_id}",
        "/traces/{trace_id}.{form}",
        "/traces/{trace_id}/events",
        "/benchmarks",
        "/benchmarks/{benchmark_id}",
        "/benchmarks/{benchmark_id}/events",
        "/benchmarks/{benchmark_id}/report",
        "/generate",
        "/revisions",
        "/revisions/{revision}",
        "/revisions/{revision}/adapter",
        "/revisions/{revision}/checkpoint",
        "/rollback",
        "/model",
        "/examples",
        "/methods",
        "/health",
        "/ready",
        "/metrics",
        "/v1/models",
        "/v1/models/{model}",
        "/v1/completions",
        "/v1/chat/completions",
    }


def test_openapi_shows_both_kinds_of_edit() -> None:
    schema = create_app(Settings(redis_url="redis://nowhere")).openapi()
    body = schema["paths"]["/edits"]["post"]["requestBody"]["content"]["application/json"]
    shown = {option["$ref"].rsplit("/", 1)[-1] for option in body["schema"]["anyOf"]}
    assert shown == {"EditRequest", "BatchRequest"}
    adapter: TypeAdapter[EditRequest | BatchRequest] = TypeAdapter(AnyEditRequest)
    kinds = [type(adapter.validate_python(example["value"])).__name__ for example in body["examples"].values()]
    assert kinds == ["EditRequest", "BatchRequest"]
    facts = schema["components"]["schemas"]["BatchRequest"]["properties"]["facts"]
    assert (facts["minItems"], facts["maxItems"]) == (1, 10_000)
    assert "batch" in schema["components"]["schemas"]["MethodCard"]["properties"]


def test_the_app_needs_a_redis_url() -> None:
    with pytest.raises(ValueError, match="set REDIS_URL"):
        create_app(Settings(redis_url=None))


def test_the_service_never_meets_torch() -> None:
    code = "import sys, service.app; print(sorted({'torch', 'transformers', 'worker'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "[]\n"
