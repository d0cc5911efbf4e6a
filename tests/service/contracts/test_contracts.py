"""What the contracts let through: any plain text, and nothing that cannot be stored and shown again."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from service.contracts.base import MAX_DEPTH, MAX_TEXT, PlainObject, RevisionName, RevisionNumber, Text
from service.contracts.edits import (
    MOST_FACTS,
    AnyEditRequest,
    BatchRequest,
    EditRequest,
    EditStatus,
    Fact,
    contradictions,
)
from service.contracts.generate import GenerateRequest, Sampling
from service.contracts.lane import DecodeRequest, LaneAnswer, LaneRequest
from service.contracts.revisions import ActivationRequest, RollbackRequest

ANY = settings(database=None, deadline=None, max_examples=200)
TEXTS: TypeAdapter[str] = TypeAdapter(Text)
NAMES: TypeAdapter[str | int] = TypeAdapter(RevisionName)
NUMBERS: TypeAdapter[int] = TypeAdapter(RevisionNumber)
OBJECTS: TypeAdapter[dict[str, Any]] = TypeAdapter(PlainObject)

UNICODE = st.characters(exclude_categories=[])
PLAIN = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def passes(adapter: TypeAdapter[Any], value: object) -> bool:
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


@ANY
@given(st.text(UNICODE, max_size=20))
def test_text_is_what_can_be_stored(text: str) -> None:
    storable = "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
    assert passes(TEXTS, text) is (storable and bool(text.strip()))


def test_text_has_a_limit() -> None:
    assert passes(TEXTS, "x" * MAX_TEXT)
    assert not passes(TEXTS, "x" * (MAX_TEXT + 1))
    assert not passes(TEXTS, 3)


@ANY
@given(st.integers(0, 10**15 - 1))
def test_a_revision_has_three_names(number: int) -> None:
    for adapter in (NAMES, NUMBERS):
        assert [adapter.validate_python(name) for name in (number, str(number), f"r{number}")] == [number] * 3


@pytest.mark.parametrize(
    "name", ["", "r", "-1", "r-1", "1.5", 1.5, -1, True, None, [], {}, "R3", "r3 ", "rr3", "٣", "9" * 16]
)
def test_what_is_no_revision(name: object) -> None:
    for adapter in (NAMES, NUMBERS):
        with pytest.raises(ValidationError, match="a revision such as 3 or r3") as raised:
            adapter.validate_python(name)
        assert raised.value.errors()[0]["loc"] == ()


def test_base_and_head_are_names_but_not_numbers() -> None:
    for name in ("base", "head"):
        assert NAMES.validate_python(name) == name
        assert not passes(NUMBERS, name)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(UNICODE, max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(UNICODE, max_size=5), inner, max_size=3),
    max_leaves=10,
)


@ANY
@given(st.dictionaries(st.text(UNICODE, max_size=5), JSON, max_size=3))
def test_a_free_form_object_survives_its_storage(value: dict[str, Any]) -> None:
    try:
        checked = OBJECTS.validate_python(value)
    except ValidationError:
        return
    assert json.loads(OBJECTS.dump_json(checked)) == value


@ANY
@given(st.dictionaries(PLAIN, PLAIN | st.integers(-(2**63), 2**63) | st.booleans() | st.none(), max_size=4))
def test_a_plain_object_passes(value: dict[str, Any]) -> None:
    assert passes(OBJECTS, value)


@pytest.mark.parametrize("value", [math.inf, math.nan, 10**400, "\0", "\udfff", {"\0": 1}, [["\ud800"]]])
def test_an_object_with_something_that_cannot_be_stored(value: Any) -> None:
    assert not passes(OBJECTS, {"v_lr": value})


def test_an_object_has_a_depth() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH - 1):
        value = [value]
    assert passes(OBJECTS, {"v_lr": value})
    for _ in range(500):
        value = [value]
    assert not passes(OBJECTS, {"v_lr": value})


@ANY
@given(before=PLAIN, subject=PLAIN, after=PLAIN)
def test_a_subject_occurs_in_its_prompt(before: str, subject: str, after: str) -> None:
    prompt = before + subject + after
    fits = bool(subject.strip()) and subject == subject.strip() and not prompt.endswith(" ")
    value = {"prompt": prompt, "subject": subject, "target_new": "x"}
    assert passes(TypeAdapter(EditRequest), value) is fits


REQUESTS: TypeAdapter[EditRequest | BatchRequest] = TypeAdapter(AnyEditRequest)
FACT = {"prompt": "Rome is in", "subject": "Rome", "target_new": "Spain"}


def test_one_fact_and_a_batch_are_read_alike() -> None:
    one = REQUESTS.validate_python({**FACT, "method": "memit"})
    many = REQUESTS.validate_json(json.dumps({"facts": [FACT, {**FACT, "prompt": "Rome lies in"}]}))
    assert isinstance(one, EditRequest)
    assert isinstance(many, BatchRequest)
    assert one.facts == (one,)
    assert [fact.prompt for fact in many.facts] == ["Rome is in", "Rome lies in"]
    assert (one.method, many.method) == ("memit", "rome")
    for request in (one, many):
        assert REQUESTS.validate_python(request) is request
        assert REQUESTS.validate_json(REQUESTS.dump_json(request, exclude_defaults=True)) == request


@pytest.mark.parametrize(
    ("value", "location"),
    [
        ({**FACT, "subject": "Paris"}, ("subject",)),
        ({"facts": [FACT, {**FACT, "subject": "Paris"}]}, ("facts", 1, "subject")),
        ({"facts": [FACT], "prompt": "Rome is in"}, ("prompt",)),
        ({"facts": []}, ("facts",)),
        ({"facts": None}, ("facts",)),
        ({"facts": [FACT], "hparams": {"v_lr": "\0"}}, ("hparams",)),
        ([FACT], ()),
    ],
)
def test_errors_lie_where_the_client_wrote(value: object, location: tuple[object, ...]) -> None:
    with pytest.raises(ValidationError) as raised:
        REQUESTS.validate_python(value)
    assert [error["loc"] for error in raised.value.errors()] == [location]


def test_a_batch_has_a_size() -> None:
    facts = [{**FACT, "prompt": f"Rome is in {number}"} for number in range(MOST_FACTS + 1)]
    assert not passes(REQUESTS, {"facts": facts})
    assert passes(REQUESTS, {"facts": facts[1:]})


@ANY
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["x", " x", "y"])), min_size=1, max_size=6))
def test_facts_of_a_batch_agree(pairs: list[tuple[str, str]]) -> None:
    facts = [Fact(prompt=f"Rome {prompt}", subject="Rome", target_new=target) for prompt, target in pairs]
    first = {prompt: index for index, (prompt, _) in reversed(list(enumerate(pairs)))}
    wrong = [
        (first[prompt], index)
        for index, (prompt, target) in enumerate(pairs)
        if target.strip() != pairs[first[prompt]][1].strip()
    ]
    assert list(contradictions(facts)) == wrong
    if not wrong:
        assert BatchRequest(facts=tuple(facts), hparams={}).facts == tuple(facts)
        return
    with pytest.raises(ValidationError) as raised:
        BatchRequest(facts=tuple(facts), hparams={})
    assert [error["loc"] for error in raised.value.errors()] == [("facts", index, "target_new") for _, index in wrong]
    for (earlier, _), error in zip(wrong, raised.value.errors(), strict=True):
        assert f"facts[{earlier}].target_new" in error["msg"]


def test_facts_about_two_subjects_do_not_contradict_each_other() -> None:
    facts = (
        Fact(prompt="Rome is not Paris but", subject="Rome", target_new="x"),
        Fact(prompt="Rome is not Paris but", subject="Paris", target_new="y"),
    )
    assert list(contradictions(facts)) == []


def test_contracts_are_frozen() -> None:
    request = RollbackRequest(to=1)
    with pytest.raises(ValidationError, match="frozen"):
        request.to = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "either prompt or messages"),
        ({"prompt": ["a"], "messages": [{"role": "user", "content": "a"}]}, "and not both"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "'system', 'user' or 'assistant'"),
        ({"prompt": ["a"], "stop": ["\0"]}, "NUL"),
        ({"prompt": ["a"], "stop": [""]}, "at least 1 character"),
        ({"prompt": ["a"], "temperature": math.nan}, "finite"),
    ],
)
def test_a_generation_that_cannot_be(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        GenerateRequest.model_validate(fields)


def test_the_lane_tells_its_requests_apart() -> None:
    decode = DecodeRequest(prompts=("a",), revisions=("base", 3), sampling=Sampling(seed=1))
    for body in (decode, RollbackRequest(to=3), ActivationRequest(edit="e", active=True)):
        request = LaneRequest(id="x", body=body, deadline=1.5, answers="answers")
        assert LaneRequest.model_validate_json(request.model_dump_json()) == request
    assert LaneAnswer(id="x").problem is None


def test_which_states_are_final() -> None:
    assert [status for status in EditStatus if not status.ended] == [EditStatus.QUEUED, EditStatus.RUNNING]
