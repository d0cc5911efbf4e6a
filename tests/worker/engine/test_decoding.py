"""Rows that join and leave at any token say what each would say alone: for every family, whatever the schedule."""

import random
from collections.abc import Sequence
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig

from tests.families import CONFIGS, tiny_model
from tests.worker.engine.kit import overridden, random_delta, wanted
from worker.engine import decoding as module
from worker.engine.decoding import Decoding
from worker.engine.resident import Resident
from worker.engine.row import Row, Wanted
from worker.engine.state import State
from worker.models.loaded import LoadedModel
from worker.models.view import Weights

PROMPTS = (
    "The",
    "The Eiffel Tower is located in the city of",
    "Lionel Messi plays football; Michael Jordan plays basketball. Question: What sport does Lionel Messi play?",
    "東京は日本の首都です。",
)


def _states(resident: Resident) -> list[Weights]:
    delta = random_delta(resident.loaded, 1)
    return [{}, State.fold(resident, [delta]).weights]


@cache
def _alone(family: str, prompt: str, revision: int, length: int, dtype: torch.dtype = torch.float32) -> list[int]:
    """What transformers' own `generate` says for one row, its weights being the model's."""
    loaded = tiny_model(family, dtype)
    resident = Resident(loaded)
    resident.install(revision, _states(resident)[revision])
    ids = loaded.tokenizer(prompt, return_tensors="pt")["input_ids"]
    config = GenerationConfig(
        max_new_tokens=length, do_sample=False, pad_token_id=0, eos_token_id=list(loaded.eos_token_ids)
    )
    output = loaded.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)
    return [token for token in output[0, ids.shape[1] :].tolist() if token not in loaded.eos_token_ids]


def _tokens(row: Row) -> list[int]:
    return [choice.token for choice in row.said]


def _run(decoding: Decoding, arrivals: Sequence[tuple[int, Row]]) -> None:
    """Let each row join before the step that its arrival names."""
    waiting = sorted(arrivals, key=lambda arrival: arrival[0])
    step = 0
    while decoding.rows or waiting:
        while waiting and waiting[0][0] <= step:
            decoding.join([waiting.pop(0)[1]])
        decoding.step()
        step += 1


@pytest.mark.parametrize("family", CONFIGS)
def test_whoever_joins_whenever_says_what_it_says_alone(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts are read in parts of 8 tokens, and every row comes while others are at another token."""
    monkeypatch.setattr(module, "PREFILL_TOKENS", {"cpu": 8})
    resident = Resident(tiny_model(family))
    states = _states(resident)
    asked = [(prompt, revision, length) for prompt in PROMPTS for revision, length in ((0, 9), (1, 3), (1, 12))]
    random.Random(1).shuffle(asked)  # noqa: S311 - an order, not a secret
    rows = [Row(resident.loaded, wanted(prompt, number, states[number], length)) for prompt, number, length in asked]
    _run(Decoding(resident.loaded, resident.view), [(2 * at, row) for at, row in enumerate(rows)])
    assert overridden(resident.loaded) == []
    for row, (prompt, revision, length) in zip(rows, asked, strict=True):
        assert _tokens(row) == _alone(family, prompt, revision, length)


@cache
def _llama() -> tuple[Resident, list[Weights]]:
    resident = Resident(tiny_model("llama"))
    return resident, _states(resident)


ARRIVALS = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from(PROMPTS), st.integers(0, 1), st.sampled_from([1, 4, 8])),
    min_size=1,
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(arrivals=ARRIVALS, leaving=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 7)), max_size=4))
def test_any_schedule(arrivals: list[tuple[int, str, int, int]], leaving: list[tuple[int, int]]) -> None:
    """And whoever leaves before its end takes nothing of the others with it."""
    resident, states = _llama()
    rows = [Row(resident.loaded, wanted(prompt, side, states[side], length)) for _, prompt, side, length in arrivals]
    decoding = Decoding(resident.loaded, resident.view)
    joined: set[int] = set()
    gone = {number % len(rows): step for step, number in leaving}
    for step in range(200):
        decoding.leave([rows[number] for number, at in gone.items() if at == step and number in joined])
        new = [number for number, arrival in enumerate(arrivals) if arrival[0] <= step and number not in joined]
        new = [number for number in new if gone.get(number, 200) > step]
        joined.update(new)
        decoding.join([rows[number] for number in new])
        decoding.step()
    assert decoding.rows == []
    for number, (_, prompt, revision, length) in enumerate(arrivals):
        said, expected = _tokens(rows[number]), _alone("llama", prompt, revision, length)
        assert said == expected[: len(said)]
        if number not in gone:
            assert said == expected
            assert rows[number].finish is not None


def test_alike_prompts_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    resident, states = _llama()
    seen: list[torch.Size] = []
    forward = type(resident.loaded.trunk).forward

    def noting(self: object, input_ids: torch.Tensor, **inputs: object) -> object:
        seen.append(input_ids.shape)
        return forward(self, input_ids=input_ids, **inputs)

    monkeypatch.setattr(type(resident.loaded.trunk), "forward", noting)
    asked = [wanted(PROMPTS[1], 1, states[1], 4, temperature=1.0, seed=seed) for seed in range(5)]
    rows = [Row(resident.loaded, each) for each in asked]
    decoding = Decoding(resident.loaded, resident.view)
    decoding.join(rows)
    decoding.step()
    assert seen[0] == (1, len(rows[0].ids))
    decoding.step()
    assert seen[1] == (5, 1)


def test_nobody_waits_for_the_whole_of_a_long_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is read, part by part, those who speak go on, and who comes with a short one begins."""
    monkeypatch.setattr(module, "PREFILL_TOKENS", {"cpu": 8})
    resident, _ = _llama()
    speaking, late, long = (
        Row(resident.loaded, wanted(prompt, 0, {}, 40)) for prompt in (PROMPTS[0], PROMPTS[0], PROMPTS[2])
    )
    parts = -(-len(long.ids) // 8)
    assert parts > 4
    decoding = Decoding(resident.loaded, resident.view)
    decoding.join([speaking])
    decoding.step()
    decoding.join([long])
    decoding.step()
    decoding.join([late])
    steps = 0
    while not late.said:
        decoding.step()
        steps += 1
    assert steps <= 5
    assert not long.said
    said = len(speaking.said)
    while not long.said:
        decoding.step()
    assert len(speaking.said) - said >= parts - 4


def test_what_keys_and_values_come_to_is_foreseen() -> None:
    resident, _ = _llama()
    first, second = (Row(resident.loaded, wanted(prompt, 0, {}, 10)) for prompt in PROMPTS[:2])
    decoding = Decoding(resident.loaded, resident.view)
    assert decoding.bytes_with(first) == 0, "nothing is known yet"
    decoding.join([first])
    decoding.step()
    config = resident.loaded.config
    size = 2 * 4 * config.num_hidden_layers * config.num_key_value_heads * config.hidden_size // 4
    assert decoding.bytes_with(second) == 2 * (len(second.ids) + 10) * size


def _gap(loaded: LoadedModel, row: Row, at: int) -> float:
    """By how much the model, alone, prefers its likeliest token to the next one after a row's first `at` tokens."""
    ids = torch.tensor([[*row.ids, *_tokens(row)[:at]]])
    with torch.no_grad():
        best = loaded.model(ids).logits[0, -1].float().topk(2).values
    return float(best[0] - best[1])


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_in_bfloat16_a_row_parts_from_itself_only_at_near_ties(family: str) -> None:
    """Sums of other sizes round otherwise: where tokens differ, two logits were within bfloat16's rounding."""
    loaded = tiny_model(family, torch.bfloat16)
    resident = Resident(loaded)
    asked: list[Wanted] = [wanted(prompt, 0, {}, 20) for prompt in PROMPTS]
    rows = [Row(loaded, each) for each in asked]
    _run(Decoding(loaded, resident.view), [(3 * at, row) for at, row in enumerate(rows)])
    for row, prompt in zip(rows, PROMPTS, strict=True):
        said, expected = _tokens(row), _alone(family, prompt, 0, 20, torch.bfloat16)
        parts = next((at for at, pair in enumerate(zip(said, expected, strict=False)) if pair[0] != pair[1]), None)
        if parts is not None:
            assert _gap(loaded, row, parts) < 0.05
