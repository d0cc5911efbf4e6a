"""A mixed batch says what each row would say alone: whatever its weights, length, seed and neighbours."""

import random
from collections import Counter
from collections.abc import Sequence
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig

from service.contracts.generate import Continuation, FinishReason, Sampling
from tests.families import CONFIGS, tiny_model
from tests.worker.engine.kit import bits, overridden, random_delta, same, same_bits, timeless, wanted
from worker.engine.generation import decode
from worker.engine.resident import Resident
from worker.engine.row import Wanted
from worker.engine.state import State
from worker.models.loaded import LoadedModel
from worker.models.view import Weights

PROMPTS = (
    "The",
    "The Eiffel Tower is located in the city of",
    "Lionel Messi plays",
    "東京は日本の首都です。",
    "Question: What sport does Lionel Messi play? Answer:",
)


def _states(resident: Resident) -> list[Weights]:
    deltas = [random_delta(resident.loaded, 1), random_delta(resident.loaded, 2, 3, seed=1)]
    return [State.fold(resident, deltas[:count]).weights for count in range(3)]


def _alone(resident: Resident, row: Wanted) -> list[int]:
    """What transformers says for this row alone, greedily, its weights being the model's own."""
    loaded = resident.loaded
    resident.install(1, row.weights)
    ids = loaded.tokenizer(row.prompt, return_tensors="pt")["input_ids"]
    output = loaded.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        generation_config=GenerationConfig(
            max_new_tokens=row.sampling.max_new_tokens,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=list(loaded.eos_token_ids),
        ),
    )
    return [token for token in output[0, ids.shape[1] :].tolist() if token not in loaded.eos_token_ids]


def _words(loaded: LoadedModel, tokens: Sequence[int]) -> tuple[str, ...]:
    return tuple(loaded.tokenizer.decode([token]) for token in tokens)


def _greedy(states: Sequence[Weights]) -> list[Wanted]:
    lengths = (1, 12, 5, 9, 3)
    return [
        wanted(prompt, revision, weights, lengths[(index + revision) % len(lengths)])
        for index, prompt in enumerate(PROMPTS)
        for revision, weights in enumerate(states)
    ]


@pytest.mark.parametrize("head", [0, 2])
@pytest.mark.parametrize("family", CONFIGS)
def test_greedy_rows_of_a_mixed_batch_are_what_each_says_alone(family: str, head: int) -> None:
    resident = Resident(tiny_model(family))
    loaded = resident.loaded
    states = _states(resident)
    greedy = _greedy(states)
    sampled = [
        wanted(
            str(row.prompt),
            row.revision,
            row.weights,
            row.sampling.max_new_tokens,
            temperature=1.5,
            top_p=0.9,
            seed=index,
        )
        for index, row in enumerate(greedy[::3])
    ]
    batch: list[Wanted] = [*greedy, *sampled]
    random.Random(0).shuffle(batch)  # noqa: S311 - an order, not a secret
    resident.install(head, states[head])
    before = bits(loaded)
    found = decode(loaded, resident.view, batch)
    assert overridden(loaded) == []
    assert same_bits(before, bits(loaded))
    seen = set()
    for row, side in zip(batch, found, strict=True):
        assert side.revision == row.revision
        assert len(side.tokens) == len(side.logprobs) <= row.sampling.max_new_tokens
        if row.sampling.temperature == 0:
            tokens = _alone(resident, row)
            assert list(side.token_ids) == tokens
            assert side.tokens == _words(loaded, tokens)
            assert side.text == loaded.tokenizer.decode(tokens, skip_special_tokens=True)
            seen.add((row.prompt, side.tokens))
    assert len(seen) > len(PROMPTS), "the states say the same, so the comparison shows nothing"


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_logprobs_are_the_models_own(family: str) -> None:
    """Before sampling, and whatever temperature and top_p are: read from whole passes over what was said."""
    resident = Resident(tiny_model(family))
    loaded = resident.loaded
    states = _states(resident)
    rows = [
        wanted("The Eiffel Tower is", 0, states[0], 6),
        wanted("The", 1, states[1], 8, temperature=2.0, top_p=0.8, top_k=40, repetition_penalty=1.3, seed=3),
    ]
    for row, side in zip(rows, decode(loaded, resident.view, rows), strict=True):
        resident.install(1, row.weights)
        prompt = loaded.tokenizer(row.prompt)["input_ids"]
        said = list(side.token_ids)
        with torch.no_grad():
            logprobs = loaded.model(torch.tensor([prompt + said])).logits[0].float().log_softmax(-1)
        expected = [float(logprobs[len(prompt) - 1 + at, token]) for at, token in enumerate(said)]
        assert side.logprobs == pytest.approx(expected, abs=1e-4)


@cache
def _llama() -> tuple[Resident, list[Weights]]:
    resident = Resident(tiny_model("llama"))
    return resident, _states(resident)


def _say(*rows: Wanted) -> list[Continuation]:
    resident, _ = _llama()
    return decode(resident.loaded, resident.view, rows)


SAMPLINGS = st.builds(
    Sampling,
    max_new_tokens=st.integers(1, 6),
    temperature=st.sampled_from([0.0, 0.7, 2.0]),
    top_p=st.sampled_from([0.3, 0.9, 1.0]),
    top_k=st.sampled_from([None, 1, 20]),
    repetition_penalty=st.sampled_from([1.0, 1.5]),
    stop=st.sampled_from([(), ("e",), ("a", " t")]),
    seed=st.integers(0, 2**63 - 1),
)
ROWS = st.builds(
    lambda prompt, revision, sampling, alternative: Wanted(
        prompt, revision, _llama()[1][revision], sampling, alternative
    ),
    st.sampled_from(PROMPTS),
    st.integers(0, 2),
    SAMPLINGS,
    st.integers(0, 3),
)


@settings(max_examples=15, deadline=None, database=None)
@given(row=ROWS, neighbours=st.lists(ROWS, max_size=4), data=st.data())
def test_a_row_depends_on_itself_alone(row: Wanted, neighbours: list[Wanted], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(neighbours)))
    (alone,) = _say(row)
    among = _say(*neighbours[:at], row, *neighbours[at:])[at]
    assert among.token_ids == alone.token_ids
    assert among.text == alone.text
    assert among.finish_reason == alone.finish_reason
    assert among.logprobs == pytest.approx(alone.logprobs, abs=1e-4)


def test_the_seed_decides() -> None:
    _, (base, *_) = _llama()
    rows = [wanted("The", 0, base, 8, temperature=1.0, seed=seed) for seed in (1, 2, 1, 3)]
    texts = [side.text for side in _say(*rows)]
    assert texts[0] == texts[2]
    assert len(set(texts)) == 3


def test_both_sides_of_a_comparison_draw_alike() -> None:
    """With equal weights and the same seed they say the same, though the weights are two copies."""
    resident, (_, one, _) = _llama()
    copy = {name: tensor.clone() for name, tensor in one.items()}
    rows = [wanted(PROMPTS[1], 1, weights, 10, temperature=1.3, top_p=0.95, seed=11) for weights in (one, copy)]
    before, after = decode(resident.loaded, resident.view, rows)
    assert timeless(before) == timeless(after)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_a_tiny_top_p_is_greedy(temperature: float) -> None:
    _, (_, one, _) = _llama()
    greedy = wanted(PROMPTS[2], 1, one, 10)
    narrow = wanted(PROMPTS[2], 1, one, 10, temperature=temperature, top_p=1e-9, seed=5)
    first, second = _say(greedy, narrow)
    assert first.tokens == second.tokens


def test_top_p_leaves_only_the_likeliest() -> None:
    """Of 400 draws none is outside of the smallest set of tokens that holds top_p of the probability."""
    resident, (base, *_) = _llama()
    loaded = resident.loaded
    with torch.no_grad():
        likely = loaded.model(**loaded.tokenizer("The", return_tensors="pt")).logits[0, -1].softmax(-1)
    ordered = likely.sort(descending=True)
    size = int((ordered.values.cumsum(0) < 0.5).sum()) + 1
    allowed = set(_words(loaded, ordered.indices[:size].tolist()))
    rows = [wanted("The", 0, base, 1, temperature=1.0, top_p=0.5, seed=seed) for seed in range(400)]
    drawn = {side.tokens[0] for side in _say(*rows) if side.tokens}
    assert drawn <= allowed
    assert len(drawn) > size / 2


def test_draws_follow_the_models_distribution() -> None:
    resident, (base, *_) = _llama()
    loaded = resident.loaded
    with torch.no_grad():
        logits = loaded.model(**loaded.tokenizer("The", return_tensors="pt")).logits[0, -1]
    likely: Counter[tuple[str, ...]] = Counter()
    for token, probability in enumerate((logits / 0.5).softmax(-1).tolist()):
        likely[() if token in loaded.eos_token_ids else _words(loaded, [token])] += probability
    rows = [wanted("The", 0, base, 1, temperature=0.5, seed=seed) for seed in range(2000)]
    drawn = Counter(side.tokens for side in _say(*rows))
    for words, expected in likely.most_common(5):
        assert drawn[words] / len(rows) == pytest.approx(
            expected, abs=4 * (expected * (1 - expected) / len(rows)) ** 0.5
        )


def test_an_end_of_text_ends_a_row_and_not_its_neighbours() -> None:
    resident = Resident(tiny_model("llama"))
    loaded = resident.loaded
    rows = [wanted(prompt, 0, {}, 8) for prompt in PROMPTS[:2]]
    plain = decode(loaded, resident.view, rows)
    assert [side.finish_reason for side in plain] == [FinishReason.LENGTH] * 2
    said, others = (list(side.token_ids) for side in plain)
    end = next(at for at, token in enumerate(said) if at and token not in said[:at] + others)
    loaded.model.generation_config.eos_token_id = [1, said[end]]
    stopped, other = decode(loaded, resident.view, rows)
    assert stopped.finish_reason is FinishReason.STOP
    assert stopped.tokens == plain[0].tokens[:end]
    assert stopped.logprobs == pytest.approx(plain[0].logprobs[:end], abs=1e-4)
    assert same(other, plain[1])
