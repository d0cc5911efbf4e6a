"""Reads a data set: the records that are well, and what is wrong with the others, by index and field."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from service.contracts.records import Record
from service.datasets.forms import form_of, read_value
from service.datasets.snippets import Snippets, with_references
from service.items import Wrong, items

MAX_FAULTS = 1000
"""Faults told of one data set; the records behind are read all the same."""


@dataclass(frozen=True)
class Fault:
    """Why a record is left out: its place (the first is 0), the line it begins in, the field, and what to do."""

    index: int
    line: int | None
    field: str
    detail: str

    def __str__(self) -> str:
        where = f"record {self.index}" + ("" if self.line is None else f", line {self.line}")
        return ": ".join(part for part in (where, self.field, self.detail) if part)


@dataclass(frozen=True)
class Dataset:
    """Records in the order of their source, and the faults of those that are not among them.

    size: how many the source has, well or not.
    """

    records: tuple[Record, ...]
    faults: tuple[Fault, ...]
    size: int


def read_text(text: str, form: str | None = None, snippets: Snippets | None = None) -> Dataset:
    """The data set in a text: JSON lines, or one JSON array."""
    return _read(items(text), form, snippets)


def read_rows(rows: Iterable[Any], form: str | None = None, snippets: Snippets | None = None) -> Dataset:
    """The data set of decoded rows, as a library gives them; null stands for a field that a row lacks."""
    return _read(((None, _without_null(row)) for row in rows), form, snippets)


def _read(values: Iterable[tuple[int | None, Any]], form: str | None, snippets: Snippets | None) -> Dataset:
    records: list[Record] = []
    faults: list[Fault] = []
    seen: dict[int, int] = {}
    shown, size = None, 0
    for index, (line, value) in enumerate(values):
        size += 1
        # A damaged record may have lost the fields that show its form, and is likely of the form before it.
        shown = form_of(value) or shown
        whole = value if snippets is None else with_references(value, snippets)
        record = _unlike(seen, index, read_value(whole, index, form or shown))
        if isinstance(record, Wrong):
            faults += (Fault(index, line, error.field, error.detail) for error in record.errors)
        else:
            records.append(record)
    return Dataset(tuple(records), tuple(faults[:MAX_FAULTS]), size)


def _unlike(seen: dict[int, int], index: int, record: Record | Wrong) -> Record | Wrong:
    """The record, if its case_id is new: results are kept by it."""
    if isinstance(record, Wrong):
        return record
    earlier = seen.setdefault(record.case_id, index)
    if earlier == index:
        return record
    return Wrong.because(f"is {record.case_id}, as of record {earlier}; each needs one of its own", "case_id")


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_null(part) for name, part in value.items() if part is not None}
    return [_without_null(part) for part in value] if isinstance(value, list) else value
