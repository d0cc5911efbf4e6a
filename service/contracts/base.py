"""The ground every contract stands on: frozen, strict about names, plain about text."""

import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

MAX_TEXT = 20_000
"""Characters in one text field; far above any model's context, far below a denial of service."""

MAX_DEPTH = 8
"""Levels of nesting in a free-form object."""

MOST_VALUES = 2000
"""In a free-form object, names among them: far more than any hyperparameters have."""

MAX_NUMBER = 2.0**63
"""Largest magnitude of a number in a free-form object."""


MOST_NAMES = 200
"""In one object that a client sends; no contract has half as many fields."""


class Contract(BaseModel):
    """A frozen value of the public API; an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _few_names(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > MOST_NAMES:
        raise ValueError(f"must not have {len(value)} names; no object here has more than {MOST_NAMES}")
    return value


class Sent(Contract):
    """What a client sends. Each fault in it costs time to tell, so there are bounds to how many there can be.

    An object with far too many names is one fault. So is a list: its first bad item, where it has `fail_fast`.
    """

    @model_validator(mode="before")
    @classmethod
    def _bounded_names(cls, value: Any) -> Any:
        return _few_names(value)


FewNames = BeforeValidator(_few_names)
"""The same bound for a dictionary."""


def _without_control_characters(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain NUL characters; remove them")
    if not text.strip():
        raise ValueError("must contain more than white space")
    return text


Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT), AfterValidator(_without_control_characters)]
"""One to MAX_TEXT characters of Unicode text, not all white space, without NUL."""


def _plain_value(value: object) -> None:
    match value:
        case str():
            if re.search("[\0\ud800-\udfff]", value):
                raise ValueError("must not contain NUL characters or lone surrogates; remove them")
        case int() | float():
            if not abs(value) <= MAX_NUMBER:
                raise ValueError("must contain finite numbers of reasonable size only")
        case dict():
            _few_names(value)


def _values(value: object, depth: int = 0) -> Iterator[object]:
    """The value, and all that is in it."""
    if depth > MAX_DEPTH:
        raise ValueError(f"must not be nested deeper than {MAX_DEPTH} levels")
    yield value
    parts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        yield from _values(part, depth + 1)


def _plain_object(value: dict[str, Any]) -> dict[str, Any]:
    for at, part in enumerate(_values(value)):
        if at > MOST_VALUES:
            raise ValueError(f"must not have more than {MOST_VALUES} values")
        _plain_value(part)
    return value


PlainObject = Annotated[dict[str, Any], AfterValidator(_plain_object)]
"""A free-form JSON object that can be stored and written again as it is."""

_REVISION = "must be a revision such as 3 or r3"
_NAME = "must be base, head, or a revision such as 3 or r3"


def _revision_number(value: object) -> object:
    if isinstance(value, str) and (match := re.fullmatch(r"r?([0-9]{1,15})", value)):
        return int(match[1])
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(_REVISION)
    return value


def _revision_name(value: object) -> object:
    if value in ("base", "head"):
        return value
    try:
        return _revision_number(value)
    except ValueError:
        raise ValueError(_NAME) from None


RevisionNumber = Annotated[
    int, Field(ge=0), BeforeValidator(_revision_number), Field(description="a revision: 3 or r3")
]
"""A revision's number, written 3 or r3."""

RevisionName = Annotated[
    str | int,
    BeforeValidator(_revision_name),
    Field(description="base, head, or a revision: 3 or r3"),
]
"""`base`, `head`, or a revision's number."""
