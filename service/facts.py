"""Reads the facts of a batch from text: JSON lines or one JSON array, of our own facts or of a data set's records."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from service import items
from service.contracts.edits import MOST_FACTS, Fact, contradictions
from service.datasets.forms import read_value
from service.items import Wrong

MAX_ERRORS = 20
"""Errors named at once."""


@dataclass(frozen=True)
class LineError:
    """A line that is wrong (the first is 1), the field in it, if any, and what to do about it."""

    line: int
    field: str
    detail: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.field}: {self.detail}" if self.field else f"line {self.line}: {self.detail}"


class FactsError(Exception):
    """The text does not hold facts; `errors` say where, and what to do."""

    def __init__(self, errors: Iterable[LineError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(map(str, self.errors)))


def decode(data: bytes) -> str:
    """The text of a file in UTF-8; FactsError if it is something else."""
    try:
        return items.decode(data)
    except items.EncodingError as error:
        raise FactsError([LineError(error.line, "", str(error))]) from None


def parse(text: str) -> tuple[Fact, ...]:
    """All facts of the text, in order; FactsError names every line that is wrong, with up to MAX_ERRORS errors."""
    facts: list[Fact] = []
    lines: list[int] = []
    errors: list[LineError] = []
    for line, value in items.items(text):
        record = read_value(value)
        if isinstance(record, Wrong):
            errors += (LineError(line, error.field, error.detail) for error in record.errors)
        else:
            facts += record.facts
            lines += [line] * len(record.facts)
        if len(errors) >= MAX_ERRORS:
            break
    errors = errors or list(_wrong_together(facts, lines))
    if errors:
        raise FactsError(errors[:MAX_ERRORS])
    return tuple(facts)


def _wrong_together(facts: Sequence[Fact], lines: Sequence[int]) -> Iterator[LineError]:
    if not facts:
        yield LineError(1, "", "there is no fact here; write one JSON object a line, or a JSON array of them")
    if len(facts) > MOST_FACTS:
        many = f"has fact {MOST_FACTS + 1}, and one batch takes {MOST_FACTS}; split the file"
        yield LineError(lines[MOST_FACTS], "", many)
    for earlier, later in contradictions(facts):
        where = f"contradicts line {lines[earlier]} after the same prompt; keep one of the two"
        yield LineError(lines[later], "target_new", where)
