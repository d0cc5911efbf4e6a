"""What is wrong with a value, located and said as its writer would."""

from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from service.wording import MAX_FIELD, field_errors, field_path


class Leaf(BaseModel, extra="forbid"):
    name: Annotated[str, Field(min_length=1)]
    size: int = 0


class Tree(BaseModel):
    leaves: Annotated[tuple[Leaf, ...], Field(min_length=1)]


def wrong(value: object) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as raised:
        Tree.model_validate(value)
    return [(error.field, error.detail) for error in field_errors(raised.value.errors())]


@pytest.mark.parametrize(
    ("value", "errors"),
    [
        ({}, [("leaves", "is required; add it")]),
        ({"leaves": []}, [("leaves", "must not be empty")]),
        ({"leaves": [{"name": ""}]}, [("leaves[0].name", "must not be empty")]),
        ({"leaves": [{"name": "a"}, {"name": 1}]}, [("leaves[1].name", "should be a valid string")]),
        (
            {"leaves": [{"name": "a", "age": 1}]},
            [("leaves[0].age", "is not a known field; remove it or correct its name")],
        ),
        ({"leaves": 3}, [("leaves", "must be a list")]),
        (3, [("", "must be an object")]),
    ],
)
def test_errors_are_said_plainly(value: object, errors: list[tuple[str, str]]) -> None:
    assert wrong(value) == errors


@settings(database=None, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=[]), max_size=200) | st.integers(0, 10**6), max_size=5))
def test_a_path_can_always_be_sent(location: list[str | int]) -> None:
    path = field_path(location)
    assert len(path) <= MAX_FIELD
    assert "\0" not in path
    assert path.encode().decode() == path


def test_a_path_is_what_the_client_wrote() -> None:
    assert field_path(("facts", 3, "paraphrases", 0)) == "facts[3].paraphrases[0]"
    assert field_path(()) == ""
