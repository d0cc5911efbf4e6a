"""Tokens are chosen as the field's own processors would have it; transformers' serve as the oracle."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import RepetitionPenaltyLogitsProcessor, TopKLogitsWarper, TopPLogitsWarper

from service.contracts.generate import Sampling
from worker.engine.sampling import Draw, choose, cut, penalized

CPU = torch.device("cpu")
# whole numbers times an odd fraction: all different, and never so close that rounding decides
LOGITS = st.lists(st.integers(-400, 400), min_size=2, max_size=40, unique=True).map(
    lambda numbers: torch.tensor(numbers, dtype=torch.float32) * 0.0371
)


def _draw(seed: int = 0, ids: tuple[int, ...] = (), **sampling: object) -> Draw:
    return Draw(Sampling.model_validate(sampling), seed, ids, CPU)


@given(logits=LOGITS, data=st.data(), penalty=st.sampled_from([0.5, 1.0, 1.3, 4.0]))
def test_the_penalty_is_transformers(logits: Tensor, data: st.DataObject, penalty: float) -> None:
    seen = sorted(data.draw(st.sets(st.integers(0, len(logits) - 1), min_size=1)))
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([seen]), logits[None].clone())[0]
    assert torch.equal(penalized(logits, seen, penalty), expected)


@given(logits=LOGITS, top_k=st.none() | st.integers(1, 50), top_p=st.sampled_from([0.05, 0.31, 0.77, 0.993, 1.0]))
def test_the_cut_is_transformers(logits: Tensor, top_k: int | None, top_p: float) -> None:
    expected = logits[None]
    none: Tensor = torch.empty(1, 0, dtype=torch.long)
    if top_k is not None:
        expected = TopKLogitsWarper(top_k)(none, expected)
    if top_p < 1:
        expected = TopPLogitsWarper(top_p)(none, expected)
    assert torch.equal(cut(logits, top_k, top_p), expected[0])


@settings(max_examples=30, deadline=None)
@given(logits=LOGITS, seed=st.integers(0, 2**63 - 1), temperature=st.sampled_from([0.3, 1.0, 3.0]))
def test_what_is_drawn_follows_from_the_seed_and_not_from_the_neighbours(
    logits: Tensor, seed: int, temperature: float
) -> None:
    alone = [_draw(seed, temperature=temperature)]
    among = [_draw(1), _draw(seed, temperature=temperature), _draw(seed + 1, temperature=5.0)]
    for _ in range(5):
        (expected,) = choose(logits[None], alone)
        found = choose(logits.expand(3, -1), among)[1]
        assert found.token == expected.token
        assert found.logprob == pytest.approx(float(logits.log_softmax(-1)[found.token]), abs=1e-4)


@given(logits=LOGITS, count=st.integers(0, 20))
def test_the_likeliest_are_told_before_temperature(logits: Tensor, count: int) -> None:
    (choice,) = choose(logits[None], [_draw(3, temperature=2.0, top_logprobs=count)])
    expected = logits.log_softmax(-1).sort(descending=True)
    size = min(count, len(logits))
    assert [token for token, _ in choice.likeliest] == expected.indices[:size].tolist()
    assert [value for _, value in choice.likeliest] == pytest.approx(expected.values[:size].tolist(), abs=1e-4)


def test_a_greedy_row_with_a_penalty_leaves_what_it_has_said() -> None:
    logits = torch.tensor([3.0, 2.9, 1.0])
    draw = _draw(ids=(2,), repetition_penalty=1.5)
    tokens = []
    for _ in range(3):
        (choice,) = choose(logits[None], [draw])
        draw.had(choice.token)
        tokens.append(choice.token)
    assert tokens == [0, 1, 0], "once both are penalized the likelier one is said again"


def test_top_k_one_is_greedy() -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0))
    for seed in range(20):
        (choice,) = choose(logits[None], [_draw(seed, temperature=10.0, top_k=1)])
        assert choice.token == int(logits.argmax())
