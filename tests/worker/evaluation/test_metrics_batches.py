"""Many facts and many prompts: the scores of each alone, the same rows once, steps of bounded size, means."""

from statistics import fmean, harmonic_mean
from typing import Any

import pytest
from torch import Tensor

from service.contracts.edits import Fact
from service.contracts.scores import FactSide, Metrics
from tests.driving import finish, finish_noting
from tests.families import tiny_model
from tests.worker.engine.kit import random_delta
from tests.worker.evaluation.kit import BARE, FULL, NEW_ALONE, measured_alone, sides_view
from worker.engine.resident import Resident
from worker.engine.state import State
from worker.evaluation.metrics import fact_scores, measure, summaries
from worker.models import memory
from worker.models.loaded import LoadedModel
from worker.models.memory import MOST_TOKENS


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
    one_by_one = [
        measured_alone(resident, many.model_copy(update={"paraphrases": (p,)}), weights) for p in many.paraphrases
    ]
    monkeypatch.setitem(MOST_TOKENS, "cpu", 160)
    ran = _rows_run(resident.loaded)
    (measured,), steps = finish_noting(measure(resident.loaded, [many], sides_view(resident, weights)))
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
    expected = measured_alone(resident, FULL, weights)
    monkeypatch.setitem(MOST_TOKENS, "cpu", 1)
    ran = _rows_run(resident.loaded)
    _same(measured_alone(resident, FULL, weights), expected)
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
    together = finish(measure(resident.loaded, facts, sides_view(resident, weights)))
    assert [found.after.rewrite.prompt for found in together] == [fact.prompt for fact in facts]
    for fact, found in zip(facts, together, strict=True):
        _same(found, measured_alone(resident, fact, weights))


def test_rows_with_the_same_tokens_run_once() -> None:
    resident = Resident(tiny_model("llama"))
    loaded = resident.loaded
    weights = State.fold(resident, [random_delta(loaded)]).weights
    ran = _rows_run(loaded)
    facts = [FULL, NEW_ALONE, BARE, *OTHERS]
    finish(measure(loaded, facts, sides_view(resident, weights)))
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
    expected = measured_alone(resident, FULL, weights)
    monkeypatch.setattr(memory, "LOGITS_AT_ONCE", logits)
    _same(measured_alone(resident, FULL, weights), expected)


def test_the_summary_of_many_is_the_mean_over_those_that_have_a_score() -> None:
    resident = Resident(tiny_model("gpt2"))
    weights = State.fold(resident, [random_delta(resident.loaded, 1, 2)]).weights
    facts = [FULL, *OTHERS, NEW_ALONE]
    scores = [fact_scores(found) for found in finish(measure(resident.loaded, facts, sides_view(resident, weights)))]
    found = summaries(scores)
    for side, mean in (("before", found.before), ("after", found.after)):
        each: list[FactSide] = [getattr(score, side) for score in scores]
        scored = [one.summary.named() for one in each]
        for name, value in mean.named().items():
            known = [one[name] for one in scored if name in one]
            assert 0 < len(known) <= len(facts)
            assert name == "S" or value == pytest.approx(fmean(known)), name
        assert set(mean.named()) == {name for one in scored for name in one} == set(mean.ci95)
        assert mean.ES is not None
        assert mean.PS is not None
        assert mean.NS is not None
        assert pytest.approx(harmonic_mean([mean.ES, mean.PS, mean.NS])) == mean.S
    bare = summaries([fact_scores(measured_alone(resident, BARE, weights))] * 2)
    assert (bare.after.ES, bare.after.S, bare.after.PA, bare.after.neighborhood_acc) == (None,) * 4
    assert bare.after.EA in (0.0, 1.0)


def test_a_facts_scores_are_its_metrics_without_the_prompts() -> None:
    resident = Resident(tiny_model("llama"))
    measured = measured_alone(resident, FULL, State.fold(resident, [random_delta(resident.loaded, 1, 2)]).weights)
    scores = fact_scores(measured)
    for side, found in ((measured.before, scores.before), (measured.after, scores.after)):
        assert found.target_new == side.rewrite.target_new
        assert found.target_true == side.rewrite.target_true
        assert found.summary == side.summary
    assert scores.before != scores.after
