"""The scores of a padded batch with both sides in it are those of one prompt at a time on each side."""

import math
from dataclasses import dataclass
from functools import partial
from statistics import fmean, harmonic_mean
from typing import Any

import pytest
import torch
from torch import Tensor

from service.contracts.edits import Fact
from service.contracts.scores import Metrics, PromptScore, Side
from tests.families import CONFIGS, tiny_model
from tests.worker.engine.kit import bits, overridden, random_delta, same_bits
from tests.worker.evaluation.kit import BARE, FULL, NEW_ALONE, measured_alone
from worker.engine.resident import Resident
from worker.engine.state import State
from worker.models.loaded import LoadedModel
from worker.models.view import Weights

NEAR = 1e-5
"""Log-probabilities so near to each other may change places between a batch and a row alone."""


@dataclass
class Plain:
    """One prompt with a target, scored token by token, each by a pass of its own.

    ranks: those that the first token may have; only one where no other is NEAR.
    """

    probability: float
    nll: float
    ranks: range
    accuracy: float
    argmax: list[int]


@torch.no_grad()
def _next(loaded: LoadedModel, ids: list[int]) -> Tensor:
    logprobs: Tensor = loaded.model(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)
    return logprobs


def _plain(loaded: LoadedModel, prompt: str, target: str) -> Plain:
    ids = loaded.tokenizer(prompt)["input_ids"]
    targets = loaded.tokenizer(f"{prompt} {target}")["input_ids"][len(ids) :]
    logprobs, ranks, argmax = [], list[range](), []
    for token in targets:
        said = _next(loaded, ids)
        logprobs.append(float(said[token]))
        others = torch.cat([said[:token], said[token + 1 :]]) - said[token]
        ranks.append(range(int((others > NEAR).sum()) + 1, int((others > -NEAR).sum()) + 2))
        argmax.append(int(said.argmax()))
        ids = [*ids, token]
    return Plain(
        probability=float(torch.tensor(logprobs).sum().exp()),
        nll=-fmean(logprobs),
        ranks=ranks[0],
        accuracy=fmean(token == said for token, said in zip(targets, argmax, strict=True)),
        argmax=argmax,
    )


def _check(score: PromptScore, loaded: LoadedModel, fact: Fact, prompt: str) -> None:
    assert score.prompt == prompt
    assert (score.target_true is None) is (fact.target_true is None)
    for found, target in ((score.target_new, fact.target_new), (score.target_true, fact.target_true)):
        if found is not None and target is not None:
            plain = _plain(loaded, prompt, target)
            assert found.nll == pytest.approx(plain.nll, rel=1e-4)
            assert found.probability == pytest.approx(plain.probability, rel=1e-3)
            assert found.rank in plain.ranks
            assert found.accuracy == plain.accuracy


def _sides(measured: Metrics, resident: Resident, weights: Weights) -> list[tuple[Side, Any]]:
    return [
        (measured.before, partial(resident.install, 0, {})),
        (measured.after, partial(resident.install, 1, weights)),
    ]


@pytest.mark.parametrize("fact", [FULL, NEW_ALONE, BARE], ids=["full", "without target_true", "bare"])
@pytest.mark.parametrize("family", CONFIGS)
def test_scores_are_those_of_one_prompt_at_a_time(family: str, fact: Fact) -> None:
    resident = Resident(tiny_model(family))
    loaded = resident.loaded
    weights = State.fold(resident, [random_delta(loaded, 1, 2)]).weights
    before = bits(loaded)
    measured = measured_alone(resident, fact, weights)
    assert same_bits(before, bits(loaded))
    assert overridden(loaded) == []
    assert measured.before != measured.after
    for side, install in _sides(measured, resident, weights):
        install()
        prompts = (fact.prompt, *fact.paraphrases, *fact.neighborhood)
        scores = (side.rewrite, *side.paraphrases, *side.neighborhood)
        for score, prompt in zip(scores, prompts, strict=True):
            _check(score, loaded, fact, prompt)


@pytest.mark.parametrize("fact", [FULL, NEW_ALONE], ids=["full", "without target_true"])
def test_neighborhood_acc_is_the_share_of_tokens_that_stay(fact: Fact) -> None:
    resident = Resident(tiny_model("llama"))
    loaded = resident.loaded
    weights = State.fold(resident, [random_delta(loaded, 1, 2, scale=0.3)]).weights
    measured = measured_alone(resident, fact, weights)
    seen: list[list[list[int]]] = []
    for _, install in _sides(measured, resident, weights):
        install()
        if fact.target_true is None:
            ids = [loaded.tokenizer(prompt)["input_ids"] for prompt in fact.neighborhood]
            seen.append([[int(_next(loaded, row).argmax())] for row in ids])
        else:
            seen.append([_plain(loaded, prompt, fact.target_true).argmax for prompt in fact.neighborhood])
    expected = fmean(fmean(a == b for a, b in zip(*pair, strict=True)) for pair in zip(*seen, strict=True))
    assert measured.before.summary.neighborhood_acc == 1.0
    assert measured.after.summary.neighborhood_acc == pytest.approx(expected)
    assert 0 < expected < 1, "nothing or everything has changed, so the comparison shows little"


def test_one_of_the_targets_has_several_tokens_and_one_has_one() -> None:
    loaded = tiny_model("llama")
    lengths = {len(_plain(loaded, FULL.prompt, target).argmax) for target in ("basketball", "football")}
    assert 1 in lengths
    assert max(lengths) > 1


def _wins(score: PromptScore) -> bool:
    assert score.target_true is not None
    return score.target_new.nll < score.target_true.nll


def _ahead(score: PromptScore) -> float:
    assert score.target_true is not None
    return math.exp(-score.target_new.nll) - math.exp(-score.target_true.nll)


def test_the_summary_follows_from_the_scores() -> None:
    resident = Resident(tiny_model("gpt2"))
    measured = measured_alone(resident, FULL, State.fold(resident, [random_delta(resident.loaded, 1, 2)]).weights)
    for side in (measured.before, measured.after):
        summary = side.summary
        assert float(_wins(side.rewrite)) == summary.ES
        assert pytest.approx(fmean(map(_wins, side.paraphrases))) == summary.PS
        assert pytest.approx(fmean(not _wins(score) for score in side.neighborhood)) == summary.NS
        es, ps, ns = summary.ES, summary.PS, summary.NS
        assert ps is not None
        assert ns is not None
        assert pytest.approx(harmonic_mean([es, ps, ns])) == summary.S
        assert float(side.rewrite.target_new.accuracy == 1) == summary.EA
        assert fmean(score.target_new.accuracy == 1 for score in side.paraphrases) == summary.PA
        assert fmean(s.target_true is not None and s.target_true.accuracy == 1 for s in side.neighborhood) == summary.NA
        assert summary.rewrite_acc == side.rewrite.target_new.accuracy
        assert summary.rephrase_acc == pytest.approx(fmean(s.target_new.accuracy for s in side.paraphrases))
        assert summary.ES_diff == pytest.approx(_ahead(side.rewrite))
        assert summary.PS_diff == pytest.approx(fmean(map(_ahead, side.paraphrases)))
        assert summary.NS_diff == pytest.approx(-fmean(map(_ahead, side.neighborhood)))


QUESTIONS = [
    {"prompt": "The sport that Lionel Messi plays is", "answer": "basketball"},
    {"prompt": "Messi", "answer": "a sport played in the city"},
]


def test_questions_are_scored_by_group_with_their_answers_forced() -> None:
    resident = Resident(tiny_model("llama"))
    loaded = resident.loaded
    weights = State.fold(resident, [random_delta(loaded, 1, 2, scale=0.3)]).weights
    groups = {"one": QUESTIONS, "two": QUESTIONS[:1], "none": []}
    fact = Fact.model_validate({**FULL.model_dump(), "locality": groups, "portability": groups})
    measured = measured_alone(resident, fact, weights)
    argmax: list[list[list[int]]] = []
    for side, install in _sides(measured, resident, weights):
        install()
        plain = [_plain(loaded, question["prompt"], question["answer"]) for question in QUESTIONS]
        argmax.append([one.argmax for one in plain])
        for found in (side.locality, side.portability):
            for score, wanted in zip(found["one"], plain, strict=True):
                assert score.answer.nll == pytest.approx(wanted.nll, rel=1e-4)
                assert score.answer.accuracy == pytest.approx(wanted.accuracy)
        right = {"one": fmean(one.accuracy for one in plain), "two": plain[0].accuracy}
        assert side.summary.portability == pytest.approx({f"{name}_acc": value for name, value in right.items()})
        if len(argmax) == 2:
            same = [fmean(a == b for a, b in zip(*pair, strict=True)) for pair in zip(*argmax, strict=True)]
            assert [score.same for score in side.locality["one"]] == pytest.approx(same)
            assert 0 < fmean(same) < 1, "nothing or everything has changed, so the comparison shows little"
            assert side.summary.locality == pytest.approx(
                {"one_acc": fmean(same), "two_acc": same[0], "one_correct": right["one"], "two_correct": right["two"]}
            )
        else:
            assert side.summary.locality["one_acc"] == 1
        assert all(score.same is None for score in side.portability["one"])


def test_what_was_not_given_is_not_scored() -> None:
    resident = Resident(tiny_model("llama"))
    weights = State.fold(resident, [random_delta(resident.loaded)]).weights
    bare = measured_alone(resident, BARE, weights).after.summary
    assert (bare.ES, bare.PS, bare.NS, bare.S, bare.PA, bare.NA) == (None,) * 6
    assert (bare.rephrase_acc, bare.neighborhood_acc) == (None, None)
    without_true = measured_alone(resident, NEW_ALONE, weights).after.summary
    assert (without_true.ES, without_true.PS, without_true.NS, without_true.S, without_true.NA) == (None,) * 5
    assert without_true.PA is not None
    assert without_true.neighborhood_acc is not None
