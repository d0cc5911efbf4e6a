"""Errors under /v1: each is the exception of OpenAI's client that it would be there, and says what to do."""

from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI, Stream
from redis import Redis

from service.contracts.lane import LaneAnswer, LaneRequest
from service.contracts.model import WorkerState
from service.errors import ProblemError, invalid
from service.keys import Keys
from tests.service.asking import decode_of, wait_until
from tests.service.stand_in import CONTEXT, StandIn

Contents = Callable[[], dict[str, bytes | None]]

MODEL = "test-model"
HELLO: list[Any] = [{"role": "user", "content": "Hello there"}]
LONG = "word " * (2 * CONTEXT)

BAD_COMPLETIONS: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown argument": ({"temprature": 1}, "temprature", "is not a known field"),
    "empty prompt": ({"prompt": ""}, "prompt[0]", "must not be empty"),
    "no prompt": ({"prompt": []}, "prompt", "must not be empty"),
    "tokens": ({"prompt": [1, 2]}, "prompt[0]", "string"),
    "too hot": ({"temperature": -1}, "temperature", "greater than or equal to 0"),
    "too many alternatives": ({"n": 17}, "n", "16"),
    "too many rows": ({"n": 16, "prompt": ["a"] * 5}, "n", "ask for fewer"),
    "too many tokens": ({"n": 16, "max_tokens": 4096}, "max_tokens", "ask for fewer"),
    "no tokens": ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
    "too long": ({"prompt": LONG}, "prompt", "shorten it"),
    "one of two too long": ({"prompt": ["a", LONG]}, "prompt[1]", "shorten it"),
    "too many log-probabilities": ({"logprobs": 21}, "logprobs", "20"),
    "empty stop": ({"stop": [".", ""]}, "stop[1]", "must not be empty"),
    "seed beyond 64 bits": ({"seed": 2**63}, "seed", "less than"),
    "urgent": ({"priority": "urgent"}, "priority", "background"),
    "options of no stream": ({"stream_options": {"include_usage": True}}, "stream_options", "set stream to true"),
    "unknown option": ({"stream": True, "stream_options": {"usage": True}}, "stream_options.usage", "not a known"),
    "frequency penalty": ({"frequency_penalty": 0.5}, "frequency_penalty", "leave it out"),
    "presence penalty": ({"presence_penalty": -0.5}, "presence_penalty", "leave it out"),
    "logit bias": ({"logit_bias": {"50256": -100}}, "logit_bias", "leave it out"),
    "best of more": ({"best_of": 3, "n": 2}, "best_of", "leave it out"),
    "echo": ({"echo": True}, "echo", "leave it out"),
    "suffix": ({"suffix": "end"}, "suffix", "leave it out"),
}

BAD_CHATS: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown argument": ({"prompt": "a"}, "prompt", "is not a known field"),
    "no messages": ({"messages": []}, "messages", "must not be empty"),
    "unknown role": ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role", "'user'"),
    "no content": ({"messages": [{"role": "user"}]}, "messages[0].content", "is required"),
    "null content": ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", "is required"),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]},
        "messages[0].content",
        "leave others out",
    ),
    "a call of a tool": (
        {"messages": [{"role": "assistant", "content": "a", "tool_calls": [{"id": "1"}]}]},
        "messages[0].tool_calls",
        "leave it out",
    ),
    "two bounds": ({"max_tokens": 1, "max_completion_tokens": 1}, "max_completion_tokens", "give one of them"),
    "too many tokens": ({"n": 16, "max_tokens": 4096}, "max_tokens", "ask for fewer"),
    "too many tokens by the new name": (
        {"n": 16, "max_completion_tokens": 4096},
        "max_completion_tokens",
        "ask for fewer",
    ),
    "likely tokens without log-probabilities": ({"top_logprobs": 2}, "top_logprobs", "needs logprobs"),
    "JSON": ({"response_format": {"type": "json_object"}}, "response_format", "leave it out"),
    "tools": ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "leave it out"),
    "functions": ({"functions": [{"name": "f"}]}, "functions", "leave it out"),
    "sound": ({"modalities": ["text", "audio"]}, "modalities", "leave it out"),
    "reasoning": ({"reasoning_effort": "high"}, "reasoning_effort", "leave it out"),
    "the web": ({"web_search_options": {"search_context_size": "low"}}, "web_search_options", "leave it out"),
}


def is_refused(path: str, ai: OpenAI, body: dict[str, Any], field: str, words: str) -> openai.BadRequestError:
    """Asserts that the client raises the exception for this; returns it."""
    with pytest.raises(openai.BadRequestError) as caught:
        ai.post(path, body=body, cast_to=object)
    assert (caught.value.param, caught.value.type) == (field, "invalid_request_error")
    assert field in caught.value.message
    assert words in caught.value.message
    return caught.value


@pytest.mark.parametrize("case", BAD_COMPLETIONS)
def test_a_bad_completion(ai: OpenAI, worker: StandIn, contents: Contents, case: str) -> None:
    changes, field, words = BAD_COMPLETIONS[case]
    before = contents()
    is_refused("/completions", ai, {"model": MODEL, "prompt": "a", **changes}, field, words)
    assert contents() == before
    assert worker.asked == []


@pytest.mark.parametrize("case", BAD_CHATS)
def test_a_bad_chat(ai: OpenAI, worker: StandIn, contents: Contents, case: str) -> None:
    changes, field, words = BAD_CHATS[case]
    before = contents()
    is_refused("/chat/completions", ai, {"model": MODEL, "messages": HELLO, **changes}, field, words)
    assert contents() == before
    assert worker.asked == []


@pytest.mark.parametrize("stream", [False, True])
def test_the_workers_problem_in_the_clients_words(ai: OpenAI, worker: StandIn, stream: bool) -> None:
    problem = invalid("prompt[0]", "is odd; straighten it", "too-long").problem
    worker.answer = lambda request: LaneAnswer(id=request.id, problem=problem)
    error = is_refused("/completions", ai, {"model": MODEL, "prompt": "a", "stream": stream}, "prompt", "straighten it")
    assert error.code == "context_length_exceeded"
    assert error.message.endswith(" prompt: is odd; straighten it")
    assert error.request_id == error.response.headers["X-Request-Id"]
    is_refused("/completions", ai, {"model": MODEL, "prompt": ["a", "b"]}, "prompt[0]", "straighten it")


def test_no_worker(ai: OpenAI, worker: StandIn) -> None:
    worker.heartbeat(WorkerState.STARTING)
    with pytest.raises(openai.InternalServerError, match="it is starting") as caught:
        ai.completions.create(model=MODEL, prompt="a")
    assert (caught.value.status_code, caught.value.type, caught.value.code) == (503, "server_error", "no_worker")
    assert caught.value.response.headers["Retry-After"] == "5"


def test_no_answer_in_time(ai: OpenAI, worker: StandIn) -> None:
    worker.answer = lambda _: None
    for stream in (False, True):
        with pytest.raises(openai.InternalServerError, match="did not answer within 2 s") as caught:
            ai.chat.completions.create(model=MODEL, messages=HELLO, stream=stream)
        assert (caught.value.status_code, caught.value.code) == (504, "no_answer")
    wait_until(lambda: worker.gone == [request.id for request in worker.asked])


def test_a_full_line(ai: OpenAI, worker: StandIn) -> None:
    full = ProblemError(503, "queue-full", "256 wait already. Try again.", retry_after=5).problem
    worker.answer = lambda request: LaneAnswer(id=request.id, problem=full)
    with pytest.raises(openai.InternalServerError, match="Try again") as caught:
        ai.completions.create(model=MODEL, prompt="a")
    assert (caught.value.status_code, caught.value.code) == (503, "queue_full")
    assert caught.value.response.headers["Retry-After"] == "5"


@pytest.mark.parametrize("chat", [False, True])
def test_an_error_in_the_middle_of_a_stream(ai: OpenAI, worker: StandIn, chat: bool) -> None:
    lost = ProblemError(503, "worker-lost", "The worker is lost. Try again.").problem

    def broken(request: LaneRequest) -> list[LaneAnswer]:
        return [*worker.answers(request)[:2], LaneAnswer(id=request.id, problem=lost)]

    worker.answer = broken
    path, body = ("/chat/completions", {"messages": HELLO}) if chat else ("/completions", {"prompt": "a"})
    stream = ai.post(
        path,
        body={"model": MODEL, "stream": True, **body},
        cast_to=dict[str, Any],
        stream=True,
        stream_cls=Stream[dict[str, Any]],
    )
    said = [next(stream) for _ in range(2 if chat else 1)][-1]["choices"][0]
    assert (said["delta"]["content"] if chat else said["text"]) == " at"
    with pytest.raises(openai.APIError, match="The worker is lost") as caught:
        next(stream)
    assert (caught.value.code, caught.value.type) == ("worker_lost", "server_error")


def test_the_revision_is_refused_before_the_stream_begins(ai: OpenAI, worker: StandIn) -> None:
    with pytest.raises(openai.NotFoundError):
        ai.chat.completions.create(model=f"{MODEL}@r9", messages=HELLO, stream=True)
    assert worker.asked == []


def test_paths_and_methods_that_do_not_exist(ai: OpenAI, http: httpx.Client) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        ai.embeddings.create(model=MODEL, input="a")
    assert (caught.value.type, caught.value.param, caught.value.code) == ("invalid_request_error", None, "not_found")
    assert http.get("/v1").json()["error"]["code"] == "not_found"
    assert http.get("/v1x").headers["Content-Type"] == "application/problem+json"
    wrong = http.get("/v1/completions")
    assert (wrong.status_code, wrong.headers["Allow"]) == (405, "POST")
    assert wrong.json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("content", "kind", "code", "words"),
    [
        (b'{"model": ', "application/json", "invalid_json", "Expecting value"),
        (b"[" * 100_000, "application/json", "invalid_json", "cannot be read"),
        (b"[]", "application/json", "invalid_request", "must be a JSON object"),
        (b'{"model": "a"}', "text/plain", "invalid_request", "Content-Type: application/json"),
        (b"", "application/json", "invalid_request", "must be a JSON object"),
    ],
)
def test_a_body_that_is_no_object(http: httpx.Client, content: bytes, kind: str, code: str, words: str) -> None:
    answer = http.post("/v1/completions", content=content, headers={"Content-Type": kind})
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/json"
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, code)
    assert words in error["message"]


def test_a_body_beyond_the_limit(http: httpx.Client) -> None:
    answer = http.post("/v1/completions", content=b" " * 10_485_760, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"


def test_a_defect(ai: OpenAI, redis: Redis, keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    redis.set(keys.card, "not a card")
    with pytest.raises(openai.InternalServerError, match="its log has the details") as caught:
        ai.completions.create(model=MODEL, prompt="a")
    assert (caught.value.status_code, caught.value.code) == (500, "internal_error")
    assert "not a card" in caplog.text
    assert "not a card" not in caught.value.message


def test_a_refused_argument_is_not_refused_at_its_neutral_value(ai: OpenAI, worker: StandIn) -> None:
    neutral: dict[str, Any] = {
        "frequency_penalty": 0.0,
        "presence_penalty": None,
        "logit_bias": None,
        "tools": None,
        "functions": [],
    }
    ai.post(
        "/chat/completions",
        body={"model": MODEL, "messages": HELLO, **neutral, "response_format": {"type": "text"}},
        cast_to=object,
    )
    assert decode_of(worker).messages[0].content == "Hello there"
