"""What each form's fields become, and in whose words a mistake is told."""

import json
from typing import Any

import pytest

from service.contracts.edits import Fact
from service.contracts.records import Record
from service.datasets.forms import FORMS, form_of, read_value
from service.datasets.reading import read_text
from service.items import Wrong
from tests.service.datasets.records import (
    BY_FORM,
    CONDENSED,
    COUNTERFACT,
    KNOWEDIT,
    KNOWN,
    MQUAKE,
    OWN,
    WIKIBIO,
    ZSRE,
)


def read(value: Any, form: str | None = None, index: int = 40) -> Record:
    found = read_value(value, index, form)
    assert isinstance(found, Record), found
    return found


def only_fact(value: Any, form: str | None = None) -> dict[str, Any]:
    (fact,) = read(value, form).facts
    return fact.model_dump(exclude_defaults=True)


def question(prompt: str, answer: str, *aliases: str) -> dict[str, Any]:
    return {"prompt": prompt, "answer": answer, **({"aliases": aliases} if aliases else {})}


def test_own() -> None:
    record = read(OWN)
    names = ("generation_prompts", "reference_texts")
    assert record.case_id == 40
    assert record.facts == (Fact.model_validate({name: OWN[name] for name in OWN if name not in names}),)
    assert record.generation_prompts == tuple(OWN["generation_prompts"])
    assert record.reference_texts == tuple(OWN["reference_texts"])
    assert read({**OWN, "case_id": 3}).case_id == 3


def test_counterfact() -> None:
    record = read(COUNTERFACT)
    assert record.case_id == 7
    assert record.generation_prompts == ("Franz Schubert grew up in", "Franz Schubert's home is")
    assert only_fact(COUNTERFACT) == {
        "prompt": "Franz Schubert was born in",
        "subject": "Franz Schubert",
        "target_new": "Oslo",
        "target_true": "Vienna",
        "paraphrases": ("The birthplace of Franz Schubert is", "Franz Schubert came from"),
        "neighborhood": ("Johann Strauss was born in", "Lise Meitner was born in"),
    }


def test_condensed_counterfact() -> None:
    fact = only_fact(CONDENSED)
    assert fact["paraphrases"] == ("The birthplace of Franz Schubert is",)
    assert fact["neighborhood"] == ("Lise Meitner was born in",)
    assert fact["locality"] == {"neighborhood": (question("Lise Meitner was born in", "Vienna"),)}
    assert read(CONDENSED).case_id == 3
    assert "neighborhood" not in only_fact({**CONDENSED, "locality_ground_truth": "Berlin"}), "of another object"


def test_zsre_is_edited_as_each_school_does() -> None:
    easyedit = only_fact(ZSRE)
    assert (easyedit["target_new"], easyedit["target_true"]) == ("Oslo", "Vienna")
    assert easyedit["prompt"] == "Where was Franz Schubert born?"
    assert easyedit["paraphrases"] == ("What is the birthplace of Franz Schubert?",)
    assert easyedit["locality"] == {"neighborhood": (question(ZSRE["loc"], "Schubert"),)}
    assert easyedit["portability"] == {"one_hop": (question("In which country was Franz Schubert born?", "Norway"),)}
    kmeng01 = only_fact(ZSRE, "zsre-answers")
    assert kmeng01["target_new"] == "Vienna"
    assert kmeng01["locality"] == {"neighborhood": (question(ZSRE["loc"] + "?", "Schubert"),)}
    assert not kmeng01.keys() & {"target_true", "portability"}


def test_knowedit() -> None:
    fact = only_fact(KNOWEDIT)
    assert (fact["target_new"], fact["target_true"]) == ("Oslo", "Vienna")
    assert fact["paraphrases"] == ("Franz Schubert was born in",)
    assert fact["locality"] == {
        "relation_specificity": (question("The gender of Franz Schubert is", "male", "man"),),
        "forgetfulness": (question("Another place of Franz Schubert is", "Vienna"),),
    }
    assert fact["portability"] == {"reasoning": (question("Franz Schubert's country is", "Norway"),)}


@pytest.mark.parametrize(("value", "name"), [(KNOWEDIT, "subject"), (WIKIBIO, "concept")])
def test_a_subject_with_white_space_around_it_is_taken_as_easyedit_takes_it(value: dict[str, Any], name: str) -> None:
    assert only_fact({**value, name: " Franz Schubert "}) == only_fact(value)
    blank = read_value({**value, name: "  "})
    assert isinstance(blank, Wrong)
    assert blank.errors[0].field == name
    torn = read_value({**value, name: "Liszt "})
    assert isinstance(torn, Wrong), "it still has to stand in the prompt"


def test_wikibio() -> None:
    fact = only_fact(WIKIBIO)
    assert (fact["prompt"], fact["subject"], fact["target_new"]) == (
        WIKIBIO["text"],
        "Franz Schubert",
        WIKIBIO["labels"],
    )
    assert list(fact["locality"]) == ["relation_specificity"]


def test_mquake() -> None:
    record = read(MQUAKE)
    assert [(fact.prompt, fact.target_new, fact.paraphrases) for fact in record.facts] == [
        ("Franz Schubert was born in", "Oslo", ("Where was Franz Schubert born?",)),
        ("The mayor of Oslo is", "Ada", ("Who is the mayor of Oslo?",)),
    ]
    assert [hop.prompt for hop in record.multi_hop] == MQUAKE["questions"]
    assert {hop.answers for hop in record.multi_hop} == {("Ada", "Ada Larsen")}


def test_known() -> None:
    assert read(KNOWN).case_id == 12
    assert only_fact(KNOWN) == {
        "prompt": "Franz Schubert was born in the city of",
        "subject": "Franz Schubert",
        "target_new": "Vienna",
    }


@pytest.mark.parametrize("form", BY_FORM)
def test_a_form_is_known_by_its_fields(form: str) -> None:
    assert form_of(BY_FORM[form]) == form
    assert form_of(json.loads(json.dumps(BY_FORM[form]))) == form


def test_forms_that_look_otherwise() -> None:
    assert form_of(WIKIBIO) == "knowedit"
    recent = {name: KNOWEDIT[name] for name in ("subject", "prompt", "target_new", "portability")}
    assert form_of({**recent, "locality": {}}) == "knowedit"
    assert form_of({"x": 1}) is None
    assert form_of([]) is None
    assert set(FORMS) == {*BY_FORM, "zsre-answers"}


@pytest.mark.parametrize(
    ("value", "form"), [(ZSRE, "zsre"), (KNOWEDIT, "knowedit"), (CONDENSED, "counterfact-condensed")]
)
def test_a_true_answer_that_is_the_new_one_is_no_true_answer(value: dict[str, Any], form: str) -> None:
    name = "alt" if form == "zsre" else "target_new"
    assert "target_true" not in only_fact({**value, name: "Vienna"})


OSLO = COUNTERFACT["requested_rewrite"]


@pytest.mark.parametrize(
    ("value", "form", "field"),
    [
        ({**OWN, "portability": {"a.b": []}}, "own", "portability.a.b.[key]"),
        ({**OWN, "portability": {"a": [{"prompt": "x"}]}}, "own", "portability.a[0].answer"),
        ({**OWN, "case_id": "x"}, "own", "case_id"),
        ({**OWN, "multi_hop": 3}, "own", "multi_hop"),
        (3, "own", ""),
        ({**COUNTERFACT, "generation_prompts": [""]}, "counterfact", "generation_prompts[0]"),
        ({**COUNTERFACT, "case_id": "x"}, "counterfact", "case_id"),
        ({**CONDENSED, "rephrase_prompt": ""}, "counterfact-condensed", "rephrase_prompt"),
        ({**CONDENSED, "locality_ground_truth": " "}, "counterfact-condensed", "locality_ground_truth"),
        ({**CONDENSED, "subject": "Liszt"}, "counterfact-condensed", "subject"),
        ({**ZSRE, "alt": ""}, "zsre", "alt"),
        ({**ZSRE, "answers": []}, "zsre", "answers"),
        ({**ZSRE, "answers": [" "]}, "zsre-answers", "answers[0]"),
        ({**ZSRE, "subject": "Liszt"}, "zsre", "subject"),
        ({**ZSRE, "rephrase": "\0"}, "zsre", "rephrase"),
        ({**ZSRE, "loc_ans": ""}, "zsre", "loc_ans"),
        ({**ZSRE, "portability": {"New Question": "x"}}, "zsre", "portability.New Answer"),
        ({**ZSRE, "portability": {"New Question": "", "New Answer": "x"}}, "zsre", "portability.New Question"),
        ({**KNOWEDIT, "target_new": ""}, "knowedit", "target_new"),
        ({**WIKIBIO, "labels": ""}, "knowedit", "labels"),
        ({**WIKIBIO, "concept": "Liszt"}, "knowedit", "concept"),
        ({**KNOWEDIT, "locality": {"Big": [{"ground_truth": "x"}]}}, "knowedit", "locality.Big[0].prompt"),
        (
            {
                **KNOWEDIT,
                "portability": {"A": [{"prompt": "x", "ground_truth": ""}, {"prompt": "y", "ground_truth": "\0"}]},
            },
            "knowedit",
            "portability.A[1].ground_truth",
        ),
        ({**MQUAKE, "requested_rewrite": []}, "mquake", "requested_rewrite"),
        ({**MQUAKE, "requested_rewrite": [OSLO, {**OSLO, "subject": ""}]}, "mquake", "requested_rewrite[1].subject"),
        ({**MQUAKE, "requested_rewrite": [{**OSLO, "prompt": "no slot"}]}, "mquake", "requested_rewrite[0].prompt"),
        ({**MQUAKE, "questions": ["a", ""]}, "mquake", "questions[1]"),
        ({**MQUAKE, "new_answer": ""}, "mquake", "new_answer"),
        ({**MQUAKE, "new_answer_alias": [""]}, "mquake", "new_answer_alias[0]"),
        ({**KNOWN, "attribute": ""}, "known", "attribute"),
        ({**KNOWN, "subject": "Liszt"}, "known", "subject"),
    ],
)
def test_a_mistake_is_told_in_the_words_of_the_file(value: Any, form: str, field: str) -> None:
    found = read_value(value, 0, form)
    assert isinstance(found, Wrong)
    assert found.errors[0].field == field
    faults = read_text(json.dumps([value]), form).faults
    assert (faults[0].index, faults[0].line, faults[0].field) == (0, 1, field)
