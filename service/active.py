"""Which edits are in force at a revision: what the ledger's lines add up to."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from service.contracts.revisions import Entry, RevisionKind


@dataclass(frozen=True)
class Lines:
    """All entries, r0 first; `committed` has the entry that made each edit."""

    entries: tuple[Entry, ...] = ()

    @cached_property
    def committed(self) -> Mapping[str, Entry]:
        """The entry with which each edit was committed."""
        return {entry.edit: entry for entry in self.entries if entry.kind is RevisionKind.EDIT and entry.edit}

    @cached_property
    def head(self) -> frozenset[str]:
        """The ids of the edits in force at the newest revision."""
        return (
            frozenset(entry.edit or "" for entry in self.active(len(self.entries) - 1)) if self.entries else frozenset()
        )

    def in_force(self, edit_id: str) -> list[bool]:
        """Of each revision whether the edit is in force there."""
        found: list[bool] = []
        for entry in self.entries:
            if entry.edit == edit_id:
                found.append(entry.kind is not RevisionKind.REVERT)
            else:
                before = entry.to if entry.kind is RevisionKind.ROLLBACK else entry.parent
                found.append(before is not None and found[before])
        return found

    def computed_with(self, edit_id: str, revision: int) -> tuple[str, ...]:
        """The other edits in force at `revision` whose deltas were computed while this one was in force."""
        there = self.in_force(edit_id)
        others = [entry for entry in self.active(revision) if entry.edit != edit_id]
        return tuple(entry.edit or "" for entry in others if entry.parent is not None and there[entry.parent])

    @cached_property
    def counts(self) -> list[int]:
        """How many edits are in force at each revision."""
        found: list[int] = []
        for entry in self.entries:
            before = entry.to if entry.kind is RevisionKind.ROLLBACK else entry.parent
            change = {RevisionKind.EDIT: 1, RevisionKind.REAPPLY: 1, RevisionKind.REVERT: -1}.get(entry.kind, 0)
            found.append((0 if before is None else found[before]) + change)
        return found

    def active(self, revision: int, most: int | None = None) -> tuple[Entry, ...]:
        """The edit entries in force at `revision`, in the order in which they were committed; or the last few of them.

        The way back from a revision is walked once; what is met first of an edit, the latest word on it, counts. What
        is not met yet was committed before everything that is left behind, so the last few are soon complete.
        """
        found: list[Entry] = []
        settled: set[str] = set()
        at: int | None = revision
        passed = 0
        while at is not None and (most is None or passed < most):
            entry = self.entries[at]
            if entry.edit is not None and entry.edit not in settled:
                settled.add(entry.edit)
                if entry.kind is not RevisionKind.REVERT:
                    found.append(self.committed[entry.edit])
                passed += entry.kind is RevisionKind.EDIT
            at = entry.to if entry.kind is RevisionKind.ROLLBACK else entry.parent
        ordered = sorted(found, key=lambda entry: entry.revision)
        return tuple(ordered if most is None else ordered[-most:])
