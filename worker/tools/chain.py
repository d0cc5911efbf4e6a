"""Whether every entry of a ledger can follow those before it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from service.active import Lines
from service.contracts.revisions import Entry, RevisionKind


def sound_part(entries: Iterable[Mapping[str, Any]]) -> tuple[Lines, str | None]:
    """The entries up to the first that cannot follow, and why it cannot; None if all can."""
    found: list[Entry] = []
    committed: set[str] = set()
    for fields in entries:
        try:
            entry = Entry.model_validate(dict(fields))
        except ValidationError as error:
            wrong = error.errors()[0]
            return Lines(tuple(found)), f"r{len(found)}: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"
        if (flaw := _flaw(entry, found, committed)) is not None:
            return Lines(tuple(found)), f"r{len(found)}: {flaw}"
        found.append(entry)
        if entry.kind is RevisionKind.EDIT:
            committed.add(str(entry.edit))
    return Lines(tuple(found)), None


def _flaw(entry: Entry, before: Sequence[Entry], committed: set[str]) -> str | None:
    number, parent = len(before), len(before) - 1 if before else None
    if (entry.revision, entry.parent) != (number, parent):
        return f"there stands r{entry.revision} with the parent {entry.parent}"
    if (entry.kind is RevisionKind.BASE) != (number == 0):
        return f"its kind is {entry.kind}"
    if (entry.blob is not None) != (entry.kind is RevisionKind.EDIT):
        return "edits have a blob, and nothing else has"
    if (entry.to is not None) != (entry.kind is RevisionKind.ROLLBACK):
        return "rollbacks name a revision, and nothing else does"
    return _flaw_of_kind(entry, before, committed)


def _flaw_of_kind(entry: Entry, before: Sequence[Entry], committed: set[str]) -> str | None:
    match entry.kind:
        case RevisionKind.EDIT if entry.edit is None or entry.edit in committed:
            return f"edit {entry.edit} cannot be committed here"
        case RevisionKind.ROLLBACK if entry.to is None or not 0 <= entry.to < len(before):
            return f"it goes back to r{entry.to}"
        case RevisionKind.ROLLBACK if before[entry.to or 0].checksum != entry.checksum:
            return f"its checksum is not that of r{entry.to}"
        case RevisionKind.REVERT if not _in_force(entry, before):
            return f"edit {entry.edit} is not in force"
        case RevisionKind.REAPPLY if entry.edit not in committed or _in_force(entry, before):
            return f"edit {entry.edit} cannot be put back"
    return None


def _in_force(entry: Entry, before: Sequence[Entry]) -> bool:
    at = entry.parent
    while at is not None:
        met = before[at]
        if met.edit is not None and met.edit == entry.edit:
            return met.kind is not RevisionKind.REVERT
        at = met.to if met.kind is RevisionKind.ROLLBACK else met.parent
    return False
