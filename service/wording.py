"""What pydantic finds wrong, in a client's own words: the field as it is written, and what to do about it."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from service.contracts.problem import FieldError

MAX_FIELD = 100
"""Characters of a field's path that are repeated to the client."""


def field_errors(errors: Iterable[Any]) -> Iterable[FieldError]:
    """Each error of a `ValidationError.errors()`, located in the value that was validated."""
    found = list(errors)
    # Whoever sent only bad items hears of each of them; that the list is left empty is no news.
    inner = {tuple(error["loc"][:depth]) for error in found for depth in range(len(error["loc"]))}
    for error in found:
        if error["type"] != "too_short" or tuple(error["loc"]) not in inner:
            yield FieldError(field=field_path(error["loc"]), detail=_what_to_do(error))


def field_path(location: Sequence[str | int]) -> str:
    """A field as a client writes it: `("paraphrases", 0)` is `paraphrases[0]`; the whole value is the empty path."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    # A client may invent field names, which need be neither short nor encodable.
    printable = path.lstrip(".").encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return printable[:MAX_FIELD]


def _what_to_do(error: Any) -> str:
    message = str(error["msg"])
    own_words = {
        "missing": "is required; add it",
        "extra_forbidden": "is not a known field; remove it or correct its name",
        "string_unicode": "must be well-formed Unicode; remove the lone surrogates",
        "string_too_short": "must not be empty",
        "too_short": "must not be empty",
        "tuple_type": "must be a list",
        "model_type": "must be an object",
        "value_error": message.removeprefix("Value error, "),
    }
    return own_words.get(error["type"], re.sub(r"^\w+ should", "should", message))
