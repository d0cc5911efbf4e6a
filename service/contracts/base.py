"""The ground every contract stands on: frozen, strict about names, plain about text."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

MAX_TEXT = 20_000
"""Characters in one text field; far above any model's context, far below a denial of service."""


class Contract(BaseModel):
    """A frozen value of the public API; an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _without_control_characters(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain NUL characters; remove them")
    if not text.strip():
        raise ValueError("must contain more than white space")
    return text


Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT), AfterValidator(_without_control_characters)]
"""One to MAX_TEXT characters of Unicode text, not all white space, without NUL."""


def _revision_number(value: object) -> object:
    if isinstance(value, str) and (match := re.fullmatch(r"r?(\d{1,15})", value)):
        return int(match[1])
    return value


def _revision_name(value: object) -> object:
    if value in ("base", "head"):
        return value
    return _revision_number(value)


def _named(value: str | int) -> str | int:
    if isinstance(value, str) and value not in ("base", "head"):
        raise ValueError("must be base, head, or a revision such as 3 or r3")
    if isinstance(value, int) and value < 0:
        raise ValueError("must be base, head, or a revision such as 3 or r3")
    return value


RevisionNumber = Annotated[int, BeforeValidator(_revision_number), Field(ge=0, description="a revision: 3 or r3")]
"""A revision's number, written 3 or r3."""

RevisionName = Annotated[
    str | int,
    BeforeValidator(_revision_name),
    AfterValidator(_named),
    Field(description="base, head, or a revision: 3 or r3"),
]
"""`base`, `head`, or a revision's number."""
