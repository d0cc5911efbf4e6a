"""Chat completions by OpenAI's client: conversations, whole and streamed."""

from typing import Any

import httpx
import pytest
from openai import OpenAI

from service.contracts.generate import MAX_NEW_TOKENS, Sampling
from service.contracts.lane import LaneRequest
from service.contracts.revisions import RevisionKind
from service.settings import Settings
from tests.service.asking import decode_of, wait_until
from tests.service.routes.test_openai_completions import told_with_likely
from tests.service.stand_in import StandIn

MODEL = "test-model"
HELLO: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hello there"}]}


def test_a_conversation(ai: OpenAI, worker: StandIn) -> None:
    worker.append(RevisionKind.ROLLBACK, to=0)
    answer = ai.chat.completions.with_raw_response.create(
        model=f"{MODEL}@r1",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]},
            {"role": "assistant", "content": "Hello!", "refusal": None},
            {"role": "user", "content": "Where?", "name": "ada"},
        ],
        n=2,
    )
    completion = answer.parse()
    assert completion.id.startswith("chatcmpl-")
    assert (completion.object, completion.model, completion.system_fingerprint) == (
        *("chat.completion", f"{MODEL}@r1", "r1"),
    )
    assert answer.headers["X-Model-Revision"] == "1"
    assert [(choice.index, choice.message.content) for choice in completion.choices] == [(0, " at 1"), (1, " at 1 1")]
    assert {(choice.message.role, choice.finish_reason) for choice in completion.choices} == {("assistant", "length")}
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (9, 5)
    asked = decode_of(worker)
    assert (asked.prompts, asked.revisions) == ((), (1,))
    assert [(turn.role, turn.content) for turn in asked.messages] == [
        *(("system", "Be brief."), ("user", "Hello"), ("assistant", "Hello!"), ("user", "Where?")),
    ]


def test_an_answer_may_be_sent_back_as_it_came(ai: OpenAI, worker: StandIn) -> None:
    said = ai.chat.completions.create(**HELLO).choices[0].message
    turns = [*HELLO["messages"], said.model_dump(), {"role": "user", "content": "And?"}]
    ai.chat.completions.create(model=MODEL, messages=turns)
    ai.chat.completions.create(model=MODEL, messages=[*HELLO["messages"], said])
    assert decode_of(worker, 1).messages[1].content == decode_of(worker, 2).messages[1].content == " at head"


@pytest.mark.parametrize("n", [1, 16])
def test_without_a_bound_the_context_is_filled(ai: OpenAI, worker: StandIn, n: int) -> None:
    ai.chat.completions.create(**HELLO, n=n)
    asked = decode_of(worker)
    assert asked.fill_context
    assert asked.sampling.max_new_tokens == min(MAX_NEW_TOKENS, Settings().max_request_tokens // n)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_bound_by_either_name(ai: OpenAI, worker: StandIn, name: str) -> None:
    ai.chat.completions.create(**{**HELLO, name: 5})
    assert not decode_of(worker).fill_context
    assert decode_of(worker).sampling.max_new_tokens == 5


def test_every_argument_reaches_the_worker(ai: OpenAI, worker: StandIn) -> None:
    ai.chat.completions.create(
        **HELLO,
        n=2,
        max_completion_tokens=5,
        temperature=0,
        top_p=0.9,
        stop=["\n"],
        seed=7,
        logprobs=True,
        top_logprobs=3,
        frequency_penalty=0,
        presence_penalty=0,
        logit_bias={},
        tools=[],
        tool_choice="none",
        parallel_tool_calls=True,
        response_format={"type": "text"},
        modalities=["text"],
        reasoning_effort="none",
        verbosity="low",
        service_tier="auto",
        store=True,
        metadata={"team": "a"},
        user="somebody",
        extra_body={"top_k": 4, "repetition_penalty": 1.5, "priority": "background"},
    )
    sampling = {"max_new_tokens": 5, "top_p": 0.9, "top_k": 4, "repetition_penalty": 1.5, "stop": ["\n"], "seed": 7}
    assert decode_of(worker).sampling == Sampling.model_validate({**sampling, "n": 2, "top_logprobs": 3})
    assert decode_of(worker).priority == "background"


def test_a_stream_says_what_the_whole_says(ai: OpenAI) -> None:
    whole = ai.chat.completions.create(**HELLO, n=2)
    chunks = list(ai.chat.completions.create(**HELLO, n=2, stream=True))
    assert {(chunk.object, chunk.model, chunk.system_fingerprint) for chunk in chunks} == {
        ("chat.completion.chunk", MODEL, "r0")
    }
    for choice in whole.choices:
        parts = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == choice.index]
        first, *middle, last = parts
        assert (first.delta.role, first.delta.content) == ("assistant", "")
        assert "".join(part.delta.content or "" for part in middle) == choice.message.content
        assert {(part.delta.role, part.finish_reason) for part in middle} == {(None, None)}
        assert last.delta.model_dump(exclude_unset=True) == {}
        assert last.finish_reason == choice.finish_reason


def test_the_first_chunk_comes_before_the_first_word(ai: OpenAI, worker: StandIn) -> None:
    worker.answer = lambda request: worker.answers(request)[:1]
    stream = ai.chat.completions.create(**HELLO, stream=True)
    assert next(stream).choices[0].delta.role == "assistant"
    stream.close()
    wait_until(lambda: worker.gone == [worker.asked[0].id])


def test_the_tokens_used_come_last(ai: OpenAI) -> None:
    chunks = list(ai.chat.completions.create(**HELLO, stream=True, stream_options={"include_usage": True}))
    assert {chunk.usage for chunk in chunks[:-1]} == {None}
    assert chunks[-1].choices == []
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (3, 2, 5)


def test_log_probabilities(ai: OpenAI, worker: StandIn) -> None:
    worker.answer = lambda request: told_with_likely(worker, request)
    logprobs = ai.chat.completions.create(**HELLO, logprobs=True, top_logprobs=2).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [(token.token, token.logprob, token.bytes) for token in logprobs.content] == [
        *((" at", -0.5, list(b" at")), (" head", -1.5, list(b" head"))),
    ]
    assert [[likely.token for likely in token.top_logprobs] for token in logprobs.content] == [
        *([" at", " in"], [" all", " once"]),
    ]
    chunks = ai.chat.completions.create(**HELLO, logprobs=True, top_logprobs=2, stream=True)
    parts = [chunk.choices[0].logprobs for chunk in chunks]
    assert [token for part in parts if part for token in part.content or ()] == logprobs.content


def test_log_probabilities_only_where_asked_for(ai: OpenAI, worker: StandIn) -> None:
    def likely(request: LaneRequest) -> Any:
        return told_with_likely(worker, request)

    worker.answer = likely
    assert ai.chat.completions.create(**HELLO).choices[0].logprobs is None
    assert {chunk.choices[0].logprobs for chunk in ai.chat.completions.create(**HELLO, stream=True)} == {None}


def test_a_model_without_a_chat_template(http: httpx.Client, worker: StandIn) -> None:
    worker.publish()
    answer = http.post("/v1/chat/completions", json=HELLO)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "no_chat_template"
    assert answer.json()["error"]["param"] == "messages"
