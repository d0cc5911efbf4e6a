"""The scores of a padded batch with both sides in it are those of one prompt at a time on each side."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from statistics import fmean, harmonic_mean
from typing import Any

import pytest
import torch
from torch import Tensor

from service.contracts.edits import Fact
from service.contracts.scores import FactSide, Metrics, PromptScore, Side, Summary
from tests.driving import finish, finish_noting
from tests.families import CONFIGS, tiny_model
from tests.worker.engine.kit import bits, overridden, random_delta, same_bits
from worker.engine.resident import Resident
from worker.engine.state import State
from worker.evaluation import metrics
from worker.evaluation.metrics import fact_scores, measure, summaries
from worker.models.loaded import LoadedModel
from worker.models.memory import MOST_TOKENS
from worker.models.view import Weights

REWRITE = {"prompt": "Yes, Lionel Messi plays", "subject": "Lionel Messi", "target_new": "basketball"}
FULL = Fact.model_validate(
    {
        **REWRITE,
        "target_true": "football",
        "paraphrases": ["The sport of Lionel Messi is", "Messi plays", "Москва"],
        "neighborhood": ["The city of", "Michael Jordan plays", "A", "Question: What sport does Messi play? Answer:"],
    }
)
NEW_ALONE = FULL.model_copy(update={"target_true": None})
BARE = Fact.model_validate(REWRITE)


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


def _measure(resident: Resident, fact: Fact, weights: Weights) -> Metrics:
    (measured,) = finish(measure(resident.loaded, [fact], _sides_view(resident, weights)))
    return measured


def _sides_view(resident: Resident, weights: Weights) -> Callable[[int], AbstractContextManager[None]]:
    return lambda rows: resident.view([{}] * rows + [weights] * rows)


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
    measured = _measure(resident, fact, weights)
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
    measured = _measure(resident, fact, weights)
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


def test_the_summary_follows_from_the_scores() -> None:
    resident = Resident(tiny_model("gpt2"))
    measured = _measure(resident, FULL, State.fold(resident, [random_delta(resident.loaded, 1, 2)]).weights)
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


def test_what_was_not_given_is_not_scored() -> None:
    resident = Resident(tiny_model("llama"))
    weights = State.fold(resident, [random_delta(resident.loaded)]).weights
    bare = _measure(resident, BARE, weights).after.summary
    assert (bare.ES, bare.PS, bare.NS, bare.S, bare.PA, bare.NA) == (None,) * 6
    assert (bare.rephrase_acc, bare.neighborhood_acc) == (None, None)
    without_true = _measure(resident, NEW_ALONE, weights).after.summary
    assert (without_true.ES, without_true.PS, without_true.NS, without_true.S, without_true.NA) == (None,) * 5
    assert without_true.PA is not None
    assert without_true.neighborhood_acc is not None


def _rows_run(loaded: LoadedModel) -> list[list[tuple[int, ...]]]:
    """The rows of every batch that the model runs from now on, without their padding."""
    seen: list[list[tuple[int, ...]]] = []

    def note(_: Any, __: Any, given: dict[str, Tensor]) -> None:
        ids, mask = given["input_ids"], given["attention_mask"].bool()
        seen.append([tuple(row[kept].tolist()) for row, kept in zip(ids, mask, strict=True)])

    loaded.trunk.register_forward_pre_hook(note, with_kwargs=True)
    return seen


def test_many_prompts_are_measured_in_several_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    resident = Resident(tiny_model("llama"))
    weights = State.fold(resident, [random_delta(resident.loaded)]).weights
    many = FULL.model_copy(update={"paraphrases": tuple(f"Messi, {n}," for n in range(20)), "neighborhood": ()})
    one_by_one = [_measure(resident, many.model_copy(update={"paraphrases": (p,)}), weights) for p in many.paraphrases]
    monkeypatch.setitem(MOST_TOKENS, "cpu", 160)
    ran = _rows_run(resident.loaded)
    (measured,), steps = finish_noting(measure(resident.loaded, [many], _sides_view(resident, weights)))
    assert {(step.phase, step.steps) for step in steps} == {("measure", 2 * 21)}
    done = [step.step for step in steps]
    assert done == sorted(set(done))
    assert done[-1] == 2 * 21
    assert len(ran) == len(steps) > 3
    assert all(len(rows) * max(map(len, rows)) <= 160 for rows in ran)
    assert len(measured.after.paraphrases) == 20
    for found, alone in zip(measured.after.paraphrases, one_by_one, strict=True):
        assert found.target_new.nll == pytest.approx(alone.after.paraphrases[0].target_new.nll, rel=1e-5)


def test_a_prompt_longer_than_a_step_is_measured_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    resident = Resident(tiny_model("gpt2"))
    weights = State.fold(resident, [random_delta(resident.loaded)]).weights
    expected = _measure(resident, FULL, weights)
    monkeypatch.setitem(MOST_TOKENS, "cpu", 1)
    ran = _rows_run(resident.loaded)
    _same(_measure(resident, FULL, weights), expected)
    assert all(len(rows) == 2 for rows in ran)


OTHERS = [
    Fact(prompt="The Eiffel Tower is in", subject="The Eiffel Tower", target_new="Rome", target_true="Paris"),
    BARE.model_copy(update={"target_new": "football", "paraphrases": ("Messi plays",)}),
    FULL.model_copy(update={"prompt": "Lionel Messi plays", "neighborhood": FULL.neighborhood[:2]}),
]


def _same(found: Metrics, expected: Metrics) -> None:
    """The same up to what another shape of the batch does to the last bits."""
    _same_numbers(found.model_dump(), expected.model_dump())


def _same_numbers(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    if isinstance(found, dict):
        assert found.keys() == expected.keys()
        for name, value in found.items():
            _same_numbers(value, expected[name])
    elif isinstance(found, tuple):
        for pair in zip(found, expected, strict=True):
            _same_numbers(*pair)
    elif isinstance(found, float):
        assert found == pytest.approx(expected, rel=2e-4)
    else:
        assert found == expected


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "opt", "falcon-alibi"])
def test_facts_together_have_the_scores_of_each_alone(family: str) -> None:
    resident = Resident(tiny_model(family))
    weights = State.fold(resident, [random_delta(resident.loaded, 1, 2)]).weights
    facts = [FULL, *OTHERS, NEW_ALONE]
    together = finish(measure(resident.loaded, facts, _sides_view(resident, weights)))
    assert [found.after.rewrite.prompt for found in together] == [fact.prompt for fact in facts]
    for fact, found in zip(facts, together, strict=True):
        _same(found, _measure(resident, fact, weights))


def test_rows_with_the_same_tokens_run_once() -> None:
    resident = Resident(tiny_model("llama"))
    loaded = resident.loaded
    weights = State.fold(resident, [random_delta(loaded)]).weights
    ran = _rows_run(loaded)
    facts = [FULL, NEW_ALONE, BARE, *OTHERS]
    finish(measure(loaded, facts, _sides_view(resident, weights)))
    rows = [row for batch in ran for row in batch]

    def tokens(text: str) -> list[int]:
        found: list[int] = loaded.tokenizer(text)["input_ids"]
        return found

    asked = [
        tuple(tokens(f"{prompt} {target}")[:-1] if target else tokens(prompt))
        for fact in facts
        for prompt in (fact.prompt, *fact.paraphrases, *fact.neighborhood)
        for target in (fact.target_new, fact.target_true)
    ]
    assert sorted(rows) == sorted([*set(asked)] * 2), "each once on the base, once on the edited weights"
    assert len(set(asked)) < len(asked) / 2


@pytest.mark.parametrize("logits", [1, 3 * 320])
def test_logits_that_are_read_piece_by_piece_say_the_same(monkeypatch: pytest.MonkeyPatch, logits: int) -> None:
    resident = Resident(tiny_model("gemma2"))
    weights = State.fold(resident, [random_delta(resident.loaded, 1, 2)]).weights
    expected = _measure(resident, FULL, weights)
    monkeypatch.setattr(metrics, "LOGITS_AT_ONCE", logits)
    _same(_measure(resident, FULL, weights), expected)


def test_the_summary_of_many_is_the_mean_over_those_that_have_a_score() -> None:
    resident = Resident(tiny_model("gpt2"))
    weights = State.fold(resident, [random_delta(resident.loaded, 1, 2)]).weights
    facts = [FULL, *OTHERS, NEW_ALONE]
    scores = [fact_scores(found) for found in finish(measure(resident.loaded, facts, _sides_view(resident, weights)))]
    found = summaries(scores)
    for side, mean in (("before", found.before), ("after", found.after)):
        each: list[FactSide] = [getattr(score, side) for score in scores]
        for name in set(Summary.model_fields) - {"S"}:
            known = [value for one in each if (value := getattr(one.summary, name)) is not None]
            assert 0 < len(known) <= len(facts)
            assert getattr(mean, name) == pytest.approx(fmean(known)), name
        assert mean.ES is not None
        assert mean.PS is not None
        assert mean.NS is not None
        assert pytest.approx(harmonic_mean([mean.ES, mean.PS, mean.NS])) == mean.S
    bare = summaries([fact_scores(_measure(resident, BARE, weights))] * 2)
    assert (bare.after.ES, bare.after.S, bare.after.PA, bare.after.neighborhood_acc) == (None,) * 4
    assert bare.after.EA in (0.0, 1.0)


def test_a_facts_scores_are_its_metrics_without_the_prompts() -> None:
    resident = Resident(tiny_model("llama"))
    measured = _measure(resident, FULL, State.fold(resident, [random_delta(resident.loaded, 1, 2)]).weights)
    scores = fact_scores(measured)
    for side, found in ((measured.before, scores.before), (measured.after, scores.after)):
        assert found.target_new == side.rewrite.target_new
        assert found.target_true == side.rewrite.target_true
        assert found.summary == side.summary
    assert scores.before != scores.after
