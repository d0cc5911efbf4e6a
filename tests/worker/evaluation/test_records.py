"""Records as wholes: the means of their facts, questions over all of them, and real free text of both sides."""

from itertools import permutations
from statistics import fmean

import pytest
import torch

from service.contracts.generate import Sampling
from service.contracts.records import Record
from tests.driving import finish, finish_noting
from tests.families import TEXTS, tiny_model
from tests.worker.engine.kit import random_delta
from tests.worker.evaluation.kit import FULL, NEW_ALONE, measured_alone, sides_view
from worker.engine.resident import Resident
from worker.engine.speaking import speaker
from worker.engine.state import State
from worker.evaluation.generated import Speech, speak
from worker.evaluation.metrics import fact_scores
from worker.evaluation.records import measure_records, record_summaries

SECOND = NEW_ALONE.model_copy(update={"prompt": "Lionel Messi plays"})
HOPS = [{"prompt": "Messi plays", "answer": "football"}, {"prompt": "The city of", "answer": "Paris"}]


def record(case_id: int, **changes: object) -> Record:
    return Record.model_validate({"case_id": case_id, "facts": [FULL], **changes})


def test_a_record_is_the_mean_of_its_facts_and_its_questions() -> None:
    resident = Resident(tiny_model("gpt2"))
    weights = State.fold(resident, [random_delta(resident.loaded, 1, 2)]).weights
    records = [record(5), record(6, facts=[FULL, SECOND], multi_hop=HOPS)]
    one, two = finish(measure_records(resident.loaded, records, sides_view(resident, weights)))
    alone = [fact_scores(measured_alone(resident, fact, weights)) for fact in (FULL, SECOND)]
    assert (one.case_id, two.case_id) == (5, 6)
    for side in ("before", "after"):
        of_one, of_two = getattr(one, side), getattr(two, side)
        first, second = (getattr(scores, side).summary.named() for scores in alone)
        assert of_one.summary.named() == pytest.approx(first, rel=1e-4)
        for name, value in of_two.summary.named().items():
            known = [scores[name] for scores in (first, second) if name in scores]
            assert name in {"S", "multi_hop_acc"} or value == pytest.approx(fmean(known), rel=1e-4)
        assert [hop.prompt for hop in of_two.multi_hop] == ["Messi plays", "The city of"]
        right = any(hop.answer.accuracy == 1 for hop in of_two.multi_hop)
        assert of_two.summary.multi_hop_acc == float(right)
        assert of_one.summary.multi_hop_acc is None
        assert of_one.summary.generated is None


def known_question(resident: Resident) -> dict[str, str]:
    """A prompt that the model continues with a whole word, and that word."""
    loaded = resident.loaded
    for pair in permutations(" ".join(TEXTS).split(), 2):
        prompt = " ".join(pair)
        with torch.no_grad():
            token = loaded.model(**loaded.tokenizer(prompt, return_tensors="pt")).logits[0, -1].argmax()
        word = loaded.tokenizer.decode([int(token)])
        if word[:1] == " " and word[1:].isalpha() and word[1:].isascii():
            return {"prompt": prompt, "answer": word[1:]}
    raise AssertionError("the tiny model says no word")


def test_one_right_answer_to_a_multi_hop_question_is_enough() -> None:
    resident = Resident(tiny_model("opt"))
    right, wrong = known_question(resident), {"prompt": "Messi plays", "answer": "Paris"}
    cases = [record(1, multi_hop=[wrong, right]), record(2, multi_hop=[wrong])]
    scores = finish(measure_records(resident.loaded, cases, sides_view(resident, {})))
    assert [[hop.answer.accuracy == 1 for hop in found.after.multi_hop] for found in scores] == [[False, True], [False]]
    assert [found.after.summary.multi_hop_acc for found in scores] == [1.0, 0.0]


def speech(prompt: str, *, edited: bool, **sampling: object) -> Speech:
    return Speech(prompt, edited, Sampling.model_validate({"max_new_tokens": 6, **sampling}))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_texts_are_what_each_side_says_by_itself(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resident = Resident(tiny_model(family))
    weights = State.fold(resident, [random_delta(resident.loaded, 1, 2, scale=0.3)]).weights
    speeches = [
        speech(prompt, edited=edited, **sampling)
        for prompt in ("Messi plays", "The Eiffel Tower is in the city")
        for edited in (False, True)
        for sampling in ({}, {"temperature": 1.0, "top_k": 5, "seed": 1}, {"max_new_tokens": 300})
    ]
    monkeypatch.setattr("worker.engine.speaking.MOST_ROWS", {"cpu": 3})
    say = speaker(resident, weights)
    together, steps = finish_noting(say(speeches))
    assert together == [finish(say([one]))[0] for one in speeches]
    assert len(set(together)) > len(speeches) / 2, "they say much the same, so the comparison shows little"
    assert {step.phase for step in steps} == {"generate"}
    assert steps[-1].step == steps[-1].steps == len(speeches)
    assert [step.step for step in steps] == sorted(step.step for step in steps)


def test_free_scores_stand_beside_the_forced_ones() -> None:
    resident = Resident(tiny_model("llama"))
    weights = State.fold(resident, [random_delta(resident.loaded, 1, 2, scale=0.3)]).weights
    records = [record(1, generation_prompts=["Messi"], multi_hop=HOPS), record(2)]
    say = speaker(resident, weights)
    scores = finish(measure_records(resident.loaded, records, sides_view(resident, weights), say))
    spoken = finish(speak(resident.loaded, records, say))
    for found, (before, after) in zip(scores, spoken, strict=True):
        assert found.before.summary.generated == before.scores
        assert found.after.summary.generated == after.scores
        assert found.after.texts == after.texts
    names = set(record_summaries(scores).after.named())
    assert {"ES", "multi_hop_acc", "generated.fluency", "generated.GE", "generated.multi_hop_acc"} <= names


def test_means_over_records_have_intervals() -> None:
    resident = Resident(tiny_model("gpt2"))
    weights = State.fold(resident, [random_delta(resident.loaded, 1, 2)]).weights
    records = [record(number, facts=[fact]) for number, fact in enumerate((FULL, SECOND, FULL))]
    scores = finish(measure_records(resident.loaded, records, sides_view(resident, weights)))
    assert all(not found.after.summary.ci95 for found in scores)
    found = record_summaries(scores).after
    assert pytest.approx(fmean(score.after.summary.EA for score in scores)) == found.EA
    assert set(found.ci95) == set(found.named())


def test_a_text_ends_where_the_context_does() -> None:
    resident = Resident(tiny_model("llama"))
    room = resident.loaded.context_length - len(resident.loaded.tokenizer("Messi")["input_ids"])
    say = speaker(resident, {})
    longest, cut = (finish(say([speech("Messi", edited=False, max_new_tokens=most)])) for most in (room, 4000))
    assert cut == longest
    assert cut[0]
