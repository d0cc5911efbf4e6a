"""The values of a text: JSON lines, or one JSON array, each with the line that it begins in."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from service.contracts.problem import FieldError


@dataclass(frozen=True)
class Wrong:
    """Stands where a value should be, or what is made of one."""

    errors: Sequence[FieldError]

    @classmethod
    def because(cls, detail: str, field: str = "") -> "Wrong":
        """One thing that is wrong."""
        return cls([FieldError(field=field, detail=detail)])


class EncodingError(Exception):
    """The bytes are not UTF-8 from `line` on (the first is 1)."""

    def __init__(self, line: int) -> None:
        self.line = line
        super().__init__("is not UTF-8; save the file in UTF-8")


def decode(data: bytes) -> str:
    """The text of a file in UTF-8; EncodingError if it is something else."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EncodingError(data.count(b"\n", 0, error.start) + 1) from None


def items(text: str) -> Iterator[tuple[int, Any]]:
    """Line and value, one after another; Wrong stands for what is no JSON, and ends an array."""
    text = text.removeprefix("\ufeff")
    begin = _skip_blank(text, 0)
    return _numbered(text, _elements(text, begin + 1) if text.startswith("[", begin) else _lines(text))


def _numbered(text: str, items: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """Items by line instead of offset."""
    line, counted = 1, 0
    for at, item in items:
        line, counted = line + text.count("\n", counted, at), at
        yield line, item


def _lines(text: str) -> Iterator[tuple[int, Any]]:
    """The value of each line that is not blank, by its offset. Inside strings JSON allows all line ends but \n, \r."""
    begin = 0
    for line in text.split("\n"):
        at = _skip_blank(line, 0)
        if at < len(line):
            yield begin, _only_value(line, at)
        begin += len(line) + 1


def _only_value(line: str, at: int) -> Any:
    value, end = _value(line, at)
    rest = _skip_blank(line, end)
    if isinstance(value, Wrong) or rest == len(line):
        return value
    if line[rest:].strip() == ",":
        return Wrong.because("ends with a comma; remove it, or make the file an array in [ ]")
    return Wrong.because(f"has something behind its object, at column {rest + 1}; write one object a line")


def _elements(text: str, at: int) -> Iterator[tuple[int, Any]]:
    """The elements of an array, by their offsets, from behind its opening bracket; what is no JSON ends it."""
    at = _skip_blank(text, at)
    more = not text.startswith("]", at)
    while more:
        if text.startswith("]", at):
            yield at, Wrong.because("has a comma before the closing ]; remove it")
            return
        value, end = _value(text, at)
        if isinstance(value, Wrong):
            yield end, value
            return
        yield at, value
        at = _skip_blank(text, end)
        more = text.startswith(",", at)
        at = _skip_blank(text, at + more)
    if not text.startswith("]", at):
        yield at, Wrong.because("needs a comma or the closing ] behind the fact before")
    elif (rest := _skip_blank(text, at + 1)) < len(text):
        yield rest, Wrong.because("has something behind the closing ]; remove it")


def _value(text: str, at: int) -> tuple[Any, int]:
    """The JSON value at an offset, and the offset of its end; or what is wrong, and where."""
    try:
        return json.JSONDecoder().raw_decode(text, at)
    except json.JSONDecodeError as error:
        column = error.pos - text.rfind("\n", 0, error.pos)
        return Wrong.because(f"is not JSON: {error.msg.removesuffix(' at')}, column {column}"), error.pos
    except RecursionError:
        return Wrong.because("is nested too deeply; a fact is one flat object"), at
    except ValueError:
        return Wrong.because("has a number with too many digits; a fact is made of texts"), at


def _skip_blank(text: str, at: int) -> int:
    """The offset of the first character from `at` on that is not white space to JSON."""
    while text.startswith((" ", "\t", "\r", "\n"), at):
        at += 1
    return at
