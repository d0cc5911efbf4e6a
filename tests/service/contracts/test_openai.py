"""OpenAI's arguments: all of the official client's are known, and any of ours says the same as a sampling."""

import typing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import completion_create_params as of_completions
from openai.types.chat import completion_create_params as of_chats
from pydantic import ValidationError

from service.contracts.openai import SEEDS, ChatMessage, ChatRequest, CompletionRequest, GenerationArguments

ANY = settings(database=None, deadline=None)

CHAT = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
COMPLETION = {"model": "m", "prompt": "a"}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (CompletionRequest, of_completions.CompletionCreateParamsBase),
        (ChatRequest, of_chats.CompletionCreateParamsBase),
    ],
)
def test_every_argument_of_the_official_client_is_known(ours: type[GenerationArguments], theirs: Any) -> None:
    assert typing.get_type_hints(theirs).keys() <= ours.model_fields.keys()


@ANY
@given(st.integers(-SEEDS, SEEDS - 1), st.integers(0, 9))
def test_seeds(seed: int, drawn: int) -> None:
    given_seed = CompletionRequest.model_validate({**COMPLETION, "seed": seed}).sampling(1, 0, drawn).seed
    assert given_seed is not None
    assert given_seed in (seed, seed + SEEDS)
    assert 0 <= given_seed < SEEDS
    assert CompletionRequest.model_validate(COMPLETION).sampling(1, 0, drawn).seed == drawn


@ANY
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5), min_size=1))
def test_parts_are_one_text(parts: list[str]) -> None:
    whole = "".join(parts)
    message = {"role": "user", "content": [{"type": "text", "text": part} for part in parts]}
    if whole.strip():
        assert ChatMessage.model_validate(message).plain().content == whole
    else:
        with pytest.raises(ValidationError):
            ChatMessage.model_validate(message)


@ANY
@given(st.sampled_from([CompletionRequest, ChatRequest]), st.data())
def test_null_is_left_out(kind: type[GenerationArguments], data: st.DataObject) -> None:
    body = COMPLETION if kind is CompletionRequest else CHAT
    names = data.draw(st.sets(st.sampled_from(sorted(kind.model_fields.keys() - body.keys()))))
    assert kind.model_validate({**body, **dict.fromkeys(names)}) == kind.model_validate(body)


@ANY
@given(st.sampled_from([CompletionRequest, ChatRequest]), st.text(min_size=1))
def test_any_other_argument_is_refused(kind: type[GenerationArguments], name: str) -> None:
    body: dict[str, Any] = COMPLETION if kind is CompletionRequest else CHAT
    if name not in kind.model_fields:
        with pytest.raises(ValidationError):
            kind.model_validate({**body, name: 1})
