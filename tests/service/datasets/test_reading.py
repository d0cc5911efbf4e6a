"""Good records are read whatever stands between them, and every bad one is named by its place, line and field."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.datasets.forms import FORMS, read_value
from service.datasets.reading import MAX_FAULTS, Dataset, read_rows, read_text
from service.datasets.snippets import parse_snippets
from tests.service.datasets.records import BY_FORM, COUNTERFACT, KNOWEDIT, ZSRE

MANY = settings(database=None, deadline=None, max_examples=200)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def numbered(value: dict[str, Any], number: int) -> dict[str, Any]:
    """The same record under an id of its own, where it has one."""
    ids: dict[str, Any] = {name: number for name in ("case_id", "known_id") if name in value}
    return {**value, **ids}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a record, all the way down."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in inner for place in places(part, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@MANY
@given(st.sampled_from(sorted(BY_FORM)), st.data(), st.booleans())
def test_whatever_is_damaged_the_rest_is_read(form: str, data: st.DataObject, lines: bool) -> None:
    good = BY_FORM[form]
    path = data.draw(st.sampled_from(places(good)))
    damaged = replaced(numbered(good, 1), path, data.draw(JSON))
    values = [numbered(good, 0), damaged, numbered(good, 2)]
    text = "\n".join(map(json.dumps, values)) if lines else json.dumps(values)
    found = read_text(text, form)
    kept = [record.facts for record in found.records]
    alone = read_value(good, 0, form)
    assert kept[0] == kept[-1] == alone.facts  # type: ignore[union-attr]
    assert {fault.index for fault in found.faults} <= {1, 2}, "2 where the damaged one has taken its id"
    assert len(found.records) + len({fault.index for fault in found.faults}) == 3


@MANY
@given(st.text(max_size=60) | st.text('[]{},:"\\\n\r 01atr', max_size=60), st.sampled_from([None, *FORMS]))
def test_any_text_is_a_data_set(text: str, form: str | None) -> None:
    found = read_text(text, form)
    assert isinstance(found, Dataset)
    assert not found.records
    assert all(fault.index >= 0 and fault.line is not None and fault.detail for fault in found.faults)


@MANY
@given(st.lists(JSON, max_size=4), st.sampled_from([None, *FORMS]))
def test_any_rows_are_a_data_set(rows: list[Any], form: str | None) -> None:
    assert len({fault.index for fault in read_rows(rows, form).faults}) == len(rows)


def test_a_fault_says_where_and_what() -> None:
    broken = {**COUNTERFACT, "case_id": 8, "requested_rewrite": {**COUNTERFACT["requested_rewrite"], "subject": ""}}
    found = read_text(f"{json.dumps(COUNTERFACT)}\n\n{json.dumps(broken)}\n{{")
    assert (len(found.records), found.size) == (1, 3)
    assert list(map(str, found.faults)) == [
        "record 1, line 3: requested_rewrite.subject: must not be empty",
        "record 2, line 4: is not JSON: Expecting property name enclosed in double quotes, column 2",
    ]


def test_a_record_that_lost_its_marks_is_taken_for_the_form_before() -> None:
    lost = {name: part for name, part in ZSRE.items() if name != "src"}
    (fault,) = read_text(json.dumps([ZSRE, lost])).faults
    assert (fault.index, fault.field, fault.detail) == (1, "src", "is required; add it")


def test_results_are_kept_by_case_id_so_none_comes_twice() -> None:
    found = read_text(json.dumps([COUNTERFACT, COUNTERFACT, {**COUNTERFACT, "case_id": 9}]))
    assert [record.case_id for record in found.records] == [7, 9]
    assert str(found.faults[0]) == "record 1, line 1: case_id: is 7, as of record 0; each needs one of its own"


def test_records_without_an_id_are_numbered_by_their_place() -> None:
    found = read_text(json.dumps([ZSRE, {**ZSRE, "alt": ""}, ZSRE]))
    assert [record.case_id for record in found.records] == [0, 2]


def test_a_librarys_rows_have_null_where_a_field_is_missing() -> None:
    row = {**KNOWEDIT, "rephrase_prompt": None, "locality": {**KNOWEDIT["locality"], "Forgetfulness": None}}
    (record,) = read_rows([row]).records
    assert record.facts[0].paraphrases == ()
    assert list(record.facts[0].locality) == ["relation_specificity"]


def test_faults_are_bounded() -> None:
    found = read_text("\n".join(["{"] * (MAX_FAULTS + 5) + [json.dumps(COUNTERFACT)]))
    assert (len(found.faults), found.size) == (MAX_FAULTS, MAX_FAULTS + 6)
    assert len(found.records) == 1


SNIPPETS = [
    {"relation_id": "P19", "target_id": "Q585", "samples": [{"name": "A", "text": "A is of Oslo."}]},
    {
        "relation_id": "P19",
        "target_id": "Q585",
        "samples": [{"name": "B", "text": "B too."}, {"name": "C", "text": " "}],
    },
    {"relation_id": "P20", "target_id": "Q585", "samples": [{"name": "D", "text": "D died there."}]},
]


def test_counterfact_gets_the_texts_about_its_target() -> None:
    snippets = parse_snippets(json.dumps(SNIPPETS))
    elsewhere = {
        **COUNTERFACT,
        "case_id": 8,
        "requested_rewrite": {**COUNTERFACT["requested_rewrite"], "relation_id": "P1"},
    }
    first, second = read_text(json.dumps([COUNTERFACT, elsewhere]), snippets=snippets).records
    assert first.reference_texts == ("A is of Oslo.", "B too.")
    assert second.reference_texts == ()


def test_snippets_that_are_none_are_named() -> None:
    with pytest.raises(ValueError, match=r"^line 2: samples\[0\]\.text: is required"):
        parse_snippets(f'[{json.dumps(SNIPPETS[0])},\n{{"relation_id": "a", "target_id": "b", "samples": [{{}}]}}]')
