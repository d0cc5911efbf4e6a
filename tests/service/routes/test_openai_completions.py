"""Completions by OpenAI's client: whole and streamed, by the right revision, counted and with log-probabilities."""

import json
import time
from typing import Any

import httpx
import pytest
from openai import OpenAI
from redis import Redis

from service.contracts.generate import FinishReason, LikelyToken, Sampling
from service.contracts.lane import LaneAnswer, LaneRequest
from service.contracts.revisions import RevisionKind
from service.keys import Keys
from tests.service.asking import body_of, decode_of, lane_length, wait_until
from tests.service.speech import continuation, pieces_of
from tests.service.stand_in import StandIn

MODEL = "test-model"


@pytest.mark.parametrize(
    ("name", "revision", "number"), [("", "head", 1), ("@base", "base", 0), ("@r0", 0, 0), ("@r1", 1, 1)]
)
def test_the_revision_that_is_asked_for_speaks(
    ai: OpenAI, worker: StandIn, name: str, revision: str | int, number: int
) -> None:
    worker.append(RevisionKind.ROLLBACK, to=0)
    answer = ai.completions.with_raw_response.create(model=MODEL + name, prompt="one two three")
    completion = answer.parse()
    assert completion.id.startswith("cmpl-")
    assert (completion.object, completion.model) == ("text_completion", MODEL + name)
    assert abs(completion.created - time.time()) < 60
    assert completion.system_fingerprint == f"r{number}"
    assert answer.headers["X-Model-Revision"] == str(number)
    (choice,) = completion.choices
    assert (choice.index, choice.text, choice.finish_reason, choice.logprobs) == (0, f" at {revision}", "length", None)
    asked = decode_of(worker)
    assert (asked.prompts, asked.revisions, asked.stream) == (("one two three",), (revision,), False)
    assert (asked.fill_context, asked.priority, asked.client) == (False, "interactive", "127.0.0.1")


def test_what_is_left_out_is_as_at_openai(ai: OpenAI, worker: StandIn) -> None:
    for _ in range(2):
        ai.completions.create(model=MODEL, prompt="a")
    first, second = decode_of(worker).sampling, decode_of(worker, 1).sampling
    assert first.model_copy(update={"seed": 0}) == Sampling(max_new_tokens=16, temperature=1, seed=0)
    assert first.seed != second.seed


def test_null_is_left_out(http: httpx.Client, ai: OpenAI, worker: StandIn) -> None:
    assert not ai.is_closed()
    names = ("n", "temperature", "top_p", "max_tokens", "seed", "stop", "stream", "stream_options", "logprobs", "user")
    answer = http.post("/v1/completions", json={"model": MODEL, "prompt": "a", **dict.fromkeys(names)})
    assert answer.status_code == 200
    assert decode_of(worker).sampling.max_new_tokens == 16
    missing = http.post("/v1/completions", json={"model": MODEL, "prompt": None})
    assert missing.json()["error"]["message"] == "prompt: is required; add it"


def test_every_argument_reaches_the_worker(ai: OpenAI, worker: StandIn) -> None:
    ai.completions.create(
        model=MODEL,
        prompt=["a", "b"],
        n=2,
        best_of=2,
        max_tokens=5,
        temperature=0.5,
        top_p=0.9,
        stop=["\n", "."],
        seed=7,
        logprobs=3,
        user="somebody",
        frequency_penalty=0,
        presence_penalty=0,
        logit_bias={},
        echo=False,
        suffix="",
        extra_body={"top_k": 4, "repetition_penalty": 1.5, "priority": "background"},
    )
    asked = decode_of(worker)
    assert asked.sampling == Sampling(
        max_new_tokens=5,
        temperature=0.5,
        top_p=0.9,
        top_k=4,
        repetition_penalty=1.5,
        stop=("\n", "."),
        seed=7,
        n=2,
        top_logprobs=3,
    )
    assert asked.priority == "background"


def test_alternatives_of_every_prompt_and_the_tokens_used(ai: OpenAI) -> None:
    completion = ai.completions.create(model=MODEL, prompt=["one two", "three"], n=2)
    assert [(choice.index, choice.text) for choice in completion.choices] == [
        *((0, " at head"), (1, " at head 1")),
        *((2, " at head"), (3, " at head 1")),
    ]
    usage = completion.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (3, 10, 13)


def test_negative_seeds_and_one_stop(ai: OpenAI, worker: StandIn) -> None:
    ai.completions.create(model=MODEL, prompt="a", seed=-1, stop="\n")
    sampling = decode_of(worker).sampling
    assert (sampling.seed, sampling.stop) == (2**63 - 1, ("\n",))


LIKELY = (
    (LikelyToken(token=" at", token_id=1, logprob=-0.5), LikelyToken(token=" in", token_id=2, logprob=-2.0)),
    (LikelyToken(token=" all", token_id=3, logprob=-0.1), LikelyToken(token=" once", token_id=4, logprob=-0.2)),
)
"""The second token was drawn, and is not among them."""


def told_with_likely(worker: StandIn, request: LaneRequest) -> list[LaneAnswer]:
    """As the stand-in's, with the likeliest tokens."""
    decoded = worker.decoded(body_of(request))
    (said,) = decoded.continuations
    decoded = decoded.model_copy(update={"continuations": (said.model_copy(update={"top_logprobs": LIKELY}),)})
    told = [LaneAnswer(id=request.id, decoded=decoded)]
    if body_of(request).stream:
        pieces = [
            tuple(piece.model_copy(update={"top_logprobs": LIKELY[step : step + 1]}) for piece in found)
            for step, found in enumerate(pieces_of(decoded.continuations))
        ]
        begun = LaneAnswer(id=request.id, started=decoded.started)
        told = [begun, *(LaneAnswer(id=request.id, pieces=found) for found in pieces), *told]
    return told


def test_log_probabilities(ai: OpenAI, worker: StandIn) -> None:
    worker.answer = lambda request: told_with_likely(worker, request)
    logprobs = ai.completions.create(model=MODEL, prompt="a", logprobs=2).choices[0].logprobs
    assert logprobs is not None
    assert (logprobs.tokens, logprobs.token_logprobs) == ([" at", " head"], [-0.5, -1.5])
    assert logprobs.text_offset == [0, 3]
    assert logprobs.top_logprobs == [{" at": -0.5, " in": -2.0}, {" head": -1.5, " all": -0.1, " once": -0.2}]
    chunks = ai.completions.create(model=MODEL, prompt="a", logprobs=2, stream=True)
    streamed = [chunk.choices[0].logprobs for chunk in chunks]
    for name in ("tokens", "token_logprobs", "text_offset", "top_logprobs"):
        assert [one for part in streamed for one in getattr(part, name)] == getattr(logprobs, name), name


def test_no_likely_tokens_are_told_where_none_are_asked_for(ai: OpenAI) -> None:
    logprobs = ai.completions.create(model=MODEL, prompt="a", logprobs=0).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.top_logprobs == [{" at": -0.5}, {" head": -1.5}]


def test_a_stream_says_what_the_whole_says(ai: OpenAI, worker: StandIn) -> None:
    asked: dict[str, Any] = {"model": MODEL, "prompt": ["one", "two"], "n": 2, "seed": 3}
    whole = ai.completions.create(**asked)
    chunks = list(ai.completions.create(**asked, stream=True))
    assert [request.stream for request in (decode_of(worker), decode_of(worker, 1))] == [False, True]
    assert {(chunk.object, chunk.model, chunk.system_fingerprint) for chunk in chunks} == {
        ("text_completion", MODEL, "r0")
    }
    assert len({chunk.id for chunk in chunks}) == 1
    for choice in whole.choices:
        parts = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == choice.index]
        assert "".join(part.text for part in parts) == choice.text
        assert [part.finish_reason for part in parts] == [*[None] * (len(parts) - 1), choice.finish_reason]


@pytest.mark.parametrize("include", [True, False])
def test_the_tokens_used_come_last_where_asked_for(ai: OpenAI, include: bool) -> None:
    options = {"include_usage": include}
    chunks = list(ai.completions.create(model=MODEL, prompt="one two", stream=True, stream_options=options))  # type: ignore[call-overload]
    told = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert len(told) == include
    if include:
        assert chunks[-1].choices == []
        assert (told[0].prompt_tokens, told[0].completion_tokens, told[0].total_tokens) == (2, 2, 4)


def test_a_stream_on_the_wire(http: httpx.Client, ai: OpenAI) -> None:
    assert not ai.is_closed()
    answer = http.post("/v1/completions", json={"model": MODEL, "prompt": "a", "stream": True})
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.headers["X-Model-Revision"] == "0"
    *events, last, end = answer.text.split("\n\n")
    assert (last, end) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, "length"]
    assert all("usage" not in chunk for chunk in chunks)


def test_a_stream_that_is_closed_frees_its_rows(ai: OpenAI, worker: StandIn, redis: Redis, keys: Keys) -> None:
    worker.answer = lambda request: worker.answers(request)[:2]
    stream = ai.completions.create(model=MODEL, prompt="a", stream=True)
    assert next(stream).choices[0].text == " at"
    assert worker.gone == []
    stream.close()
    wait_until(lambda: worker.gone == [worker.asked[0].id])
    assert lane_length(redis, keys) == 0


def test_a_text_that_a_stop_ended(ai: OpenAI, worker: StandIn) -> None:
    def stopped(request: LaneRequest) -> LaneAnswer:
        said = continuation(0, " at", ".", text=" at", finish_reason=FinishReason.STOP)
        decoded = worker.decoded(body_of(request)).model_copy(update={"continuations": (said,)})
        return LaneAnswer(id=request.id, decoded=decoded)

    worker.answer = stopped
    completion = ai.completions.create(model=MODEL, prompt="a", stop=".")
    assert (completion.choices[0].text, completion.choices[0].finish_reason) == (" at", "stop")
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 2
