"""The facts of a batch as files have them: whatever is written well is read, whatever is not is named by its line."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from service import facts as module
from service.contracts.edits import Fact, contradictions
from service.facts import MAX_ERRORS, FactsError, LineError, decode, parse
from tests.service.stand_in import EIFFEL

MANY = settings(database=None, deadline=None, max_examples=200)

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
BLANK = st.text(" \t\r", max_size=3)


def _fact(fields: dict[str, Any]) -> Fact | None:
    try:
        return Fact.model_validate(fields)
    except ValidationError:
        return None


@st.composite
def a_fact(draw: st.DrawFn) -> Fact:
    """Any fact; most strings that JSON treats in a special way are among its texts."""
    subject = draw(TEXT)
    fields = {
        "prompt": draw(TEXT) + subject + draw(TEXT),
        "subject": subject,
        "target_new": draw(TEXT),
        "target_true": draw(st.none() | TEXT),
        "paraphrases": draw(st.lists(TEXT, max_size=2)),
        "neighborhood": draw(st.lists(TEXT, max_size=2)),
    }
    return _fact(fields) or Fact.model_validate(EIFFEL)


def agreeing(facts: list[Fact]) -> bool:
    return not list(contradictions(facts))


FACTS = st.lists(a_fact(), min_size=1, max_size=5).filter(agreeing)


def dumped(fact: Fact, *, ascii_only: bool, indent: int | None = None) -> str:
    return json.dumps(fact.model_dump(exclude_defaults=True), ensure_ascii=ascii_only, indent=indent)


def errors_of(text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(FactsError) as raised:
        parse(text)
    return [(error.line, error.field, error.detail) for error in raised.value.errors]


@MANY
@given(FACTS, st.data(), st.booleans(), st.sampled_from(["\n", "\r\n"]), st.sampled_from([b"", b"\xef\xbb\xbf"]))
def test_lines_are_read_as_they_were_written(
    facts: list[Fact], data: st.DataObject, ascii_only: bool, end: str, mark: bytes
) -> None:
    text = ""
    for fact in facts:
        text += "".join(data.draw(BLANK) + end for _ in range(data.draw(st.integers(0, 2))))
        text += data.draw(BLANK) + dumped(fact, ascii_only=ascii_only) + data.draw(BLANK) + end
    if data.draw(st.booleans()):
        text = text.removesuffix(end)
    assert parse(decode(mark + text.encode())) == tuple(facts)
    assert parse("\ufeff" + text) == tuple(facts)


@MANY
@given(FACTS, st.booleans(), st.sampled_from([None, 0, 4]), BLANK)
def test_an_array_is_read_as_it_was_written(
    facts: list[Fact], ascii_only: bool, indent: int | None, blank: str
) -> None:
    elements = (dumped(fact, ascii_only=ascii_only, indent=indent) for fact in facts)
    assert parse(f"{blank}\n[{blank}" + f"{blank},\n".join(elements) + f"\n]{blank}\n") == tuple(facts)


BAD = ('{"prompt": 3}', "{", "null", '"text"', "\0", "[1]", "9" * 5000, '{"x": "\ud800"}', "[" * 9999)


@MANY
@given(FACTS, st.data())
def test_every_bad_line_is_named(facts: list[Fact], data: st.DataObject) -> None:
    bad = st.sampled_from(BAD)
    lines: list[tuple[str, bool]] = [(dumped(fact, ascii_only=True), True) for fact in facts]
    for _ in range(data.draw(st.integers(1, 4))):
        lines.insert(data.draw(st.integers(1, len(lines))), (data.draw(bad), False))
    wrong = [number for number, (_, good) in enumerate(lines, start=1) if not good]
    assert sorted({line for line, _, _ in errors_of("\n".join(text for text, _ in lines))}) == wrong


def outcome_of(text: str) -> tuple[Sequence[Fact], Sequence[LineError]]:
    try:
        return parse(text), ()
    except FactsError as error:
        return (), error.errors


@MANY
@given(st.text(max_size=40) | st.text('[]{},:"\\\n\r 01atr', max_size=40))
def test_any_text_is_facts_or_a_list_of_lines(text: str) -> None:
    facts, errors = outcome_of(text)
    assert bool(facts) is not bool(errors)
    assert len(errors) <= MAX_ERRORS
    assert all(1 <= wrong.line <= text.count("\n") + 1 for wrong in errors)


@MANY
@given(st.text(max_size=20), st.text("\n\r\ufeff{}", max_size=20))
def test_a_file_in_utf_8_is_text(first: str, then: str) -> None:
    text = first + then
    assert decode(text.encode()) == text.removeprefix("\ufeff")


@pytest.mark.parametrize(
    "data", ["a\nb\né\nd".encode("latin-1"), b"\n\n\x80", b"x\n\ny\xc3", '\n\n{"a": 1}'.encode("utf-16")]
)
def test_a_file_in_something_else_is_told_where(data: bytes) -> None:
    with pytest.raises(FactsError, match=r"^line (3|1): is not UTF-8; save the file in UTF-8$") as raised:
        decode(data)
    assert raised.value.errors[0].line == (1 if data.startswith(b"\xff") else 3)


LINE = json.dumps(EIFFEL)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "there is no fact here"),
        (" \n\r\n\t", 1, "there is no fact here"),
        ("[]", 1, "there is no fact here"),
        (f"{LINE},\n{LINE}", 1, "ends with a comma; remove it, or make the file an array"),
        (f"{LINE}\n{LINE} {LINE}", 2, "something behind its object, at column"),
        (f"[{LINE},\n{LINE},\n]", 3, "has a comma before the closing ]"),
        (f"[{LINE}\n{LINE}]", 2, "needs a comma or the closing ]"),
        (f"[\n{LINE}", 2, "needs a comma or the closing ]"),
        (f"[{LINE}]\n{LINE}", 2, "something behind the closing ]"),
        (f'[{LINE},\n{{"prompt"\n "x"}}]', 3, "is not JSON: Expecting ':' delimiter, column 2"),
        (f'{LINE}\n{{"prompt": "a\0"}}', 2, "is not JSON: Invalid control character, column 14"),
        (f"{LINE}\n{{'prompt': 1}}", 2, "double quotes, column 2"),
        ("[" * 100_000, 1, "nested too deeply"),
        ("9" * 10_000, 1, "too many digits"),
        ("3", 1, "must be an object"),
    ],
)
def test_what_is_wrong_with_the_file_is_said(text: str, line: int, words: str) -> None:
    *_, last = errors_of(text)
    assert (last[0], last[1]) == (line, "")
    assert words in last[2]


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"subject": "Big Ben"}, "subject", "must occur in the prompt"),
        ({"paraphrases": ["fine", "a\0"]}, "paraphrases[1]", "NUL"),
        ({"target_new": None}, "target_new", "string"),
        ({"target": "Rome"}, "target", "is not a known field"),
        ({"neighborhood": "one"}, "neighborhood", "must be a list"),
        ({"prompt": "x" * 20_001}, "prompt", "20000"),
        ({"y" * 1000: 1}, "y" * 100, "is not a known field"),
    ],
)
def test_what_is_wrong_with_a_fact_is_said(changes: dict[str, Any], field: str, words: str) -> None:
    found = errors_of(f"{LINE}\n\n{json.dumps({**EIFFEL, **changes})}")
    assert found[0][:2] == (3, field)
    assert words in found[0][2]


def test_a_contradiction_names_both_lines() -> None:
    other = json.dumps({**EIFFEL, "target_new": "Berlin"})
    ((line, field, detail),) = errors_of(f"\n{LINE}\n{LINE}\n{other}\n")
    assert (line, field) == (4, "target_new")
    assert detail.startswith("contradicts line 2 ")


def test_errors_are_told_in_moderation() -> None:
    found = errors_of("\n".join(["{}"] * 100))
    assert len(found) == MAX_ERRORS
    assert found[-1][0] == 7, "three fields are missing in each line"


def test_a_file_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FACTS", 2)
    assert len(parse(f"{LINE}\n{LINE}")) == 2
    ((line, _, detail),) = errors_of(f"{LINE}\n{LINE}\n\n{LINE}")
    assert line == 4
    assert "one batch takes 2; split the file" in detail


def record(**changes: Any) -> dict[str, Any]:
    rewrite = {
        "prompt": "The mother tongue of {} is",
        "relation_id": "P103",
        "target_new": {"str": "English", "id": "Q1860"},
        "target_true": {"str": "French", "id": "Q150"},
        "subject": "Danielle Darrieux",
    }
    return {
        "case_id": 0,
        "pararel_idx": 2796,
        "requested_rewrite": {**rewrite, **changes.pop("rewrite", {})},
        "paraphrase_prompts": ["Danielle Darrieux, a native"],
        "neighborhood_prompts": ["Michel Rocard is a native speaker of"],
        "attribute_prompts": ["J.R.R. Tolkien is a native speaker of"],
        "generation_prompts": ["Danielle Darrieux's mother tongue is"],
        **changes,
    }


def test_a_counterfact_record_is_a_fact() -> None:
    wanted = Fact(
        prompt="The mother tongue of Danielle Darrieux is",
        subject="Danielle Darrieux",
        target_new="English",
        target_true="French",
        paraphrases=("Danielle Darrieux, a native",),
        neighborhood=("Michel Rocard is a native speaker of",),
    )
    assert parse(json.dumps([record()], indent=2)) == (wanted,)
    assert parse(f"{json.dumps(record())}\n{LINE}") == (wanted, Fact.model_validate(EIFFEL)), "both kinds in one file"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"rewrite": {"prompt": "The mother tongue is"}}, "requested_rewrite.prompt"),
        ({"rewrite": {"prompt": "{} speaks "}}, "requested_rewrite.prompt"),
        ({"rewrite": {"subject": " Danielle"}}, "requested_rewrite.subject"),
        ({"rewrite": {"target_new": "English"}}, "requested_rewrite.target_new"),
        ({"rewrite": {"target_new": {}}}, "requested_rewrite.target_new.str"),
        ({"rewrite": {"target_new": {"str": " "}}}, "requested_rewrite.target_new.str"),
        ({"rewrite": {"target_true": {"str": "English"}}}, "requested_rewrite.target_true.str"),
        ({"requested_rewrite": None}, "requested_rewrite"),
        ({"paraphrase_prompts": ["a", ""]}, "paraphrase_prompts[1]"),
        ({"neighborhood_prompts": [3]}, "neighborhood_prompts[0]"),
    ],
)
def test_a_bad_counterfact_record_is_named_in_its_own_words(changes: dict[str, Any], field: str) -> None:
    found = errors_of(f"{json.dumps(record())}\n{json.dumps(record(**changes))}")
    assert [wrong[:2] for wrong in found] == [(2, field)]
