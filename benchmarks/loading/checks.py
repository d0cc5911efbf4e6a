"""What a load run knows to be true, and finds every answer wrong by that contradicts it."""

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence

from service.contracts.edits import Edit, EditStatus
from service.contracts.revisions import Revision, RevisionKind

APPLIED = (EditStatus.APPLIED, EditStatus.REVERTED)
"""How an edit stands that the ledger has; reverted if the head has moved on."""


class WrongAnswerError(Exception):
    """An answer that cannot be right."""


class Truth:
    """What was answered so far. Whoever asks the same again, at any time, must not be answered otherwise.

    All methods but `head` raise WrongAnswerError.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said: dict[tuple[str, int], str] = {}
        self._lines: dict[int, Revision] = {}
        self._edits: dict[str, int] = {}
        self._head = 0

    @property
    def head(self) -> int:
        """The newest revision that anybody has seen."""
        with self._lock:
            return self._head

    @property
    def edits(self) -> dict[str, int]:
        """The edits that were seen applied, and the revision that each made."""
        with self._lock:
            return dict(self._edits)

    def saw(self, head: int | None, least: int) -> None:
        """A head is told, to somebody who knew beforehand that there is a revision `least`."""
        require(head is not None and head >= least, f"the head is told to be r{head}, and r{least} was there before")
        with self._lock:
            self._head = max(self._head, head or 0)

    def spoke(self, wanted: str | int, revision: int, least: int) -> None:
        """A revision speaks where `wanted` was asked for."""
        if wanted == "head":
            self.saw(revision, least)
        else:
            number = 0 if wanted == "base" else wanted
            require(revision == number, f"r{revision} speaks where {wanted} was asked for")

    def said(self, prompt: str, revision: int, text: str) -> None:
        """A revision continues a prompt, greedily and always for the same number of tokens."""
        with self._lock:
            before = self._said.setdefault((prompt, revision), text)
        require(before == text, f"r{revision} says {text!r} after {prompt!r}, and said {before!r} before")

    def listed(self, line: Revision) -> None:
        """A revision is told; its active edits may be cut."""
        cut = line.model_copy(update={"active": ()})
        with self._lock:
            before = self._lines.setdefault(line.revision, cut)
            self._head = max(self._head, line.revision)
        require(before == cut, f"r{line.revision} is told as {cut}, and was {before}")

    def applied(self, edit: Edit) -> int:
        """An edit that has ended well is told; returns the revision that it made."""
        require(edit.status in APPLIED, f"edit {edit.id} is {edit.status}: {edit.problem and edit.problem.detail}")
        revision = edit.revision
        if revision is None:
            raise WrongAnswerError(f"edit {edit.id} is {edit.status}, and names no revision")
        with self._lock:
            before = self._edits.setdefault(edit.id, revision)
            self._head = max(self._head, revision)
        require(before == revision, f"edit {edit.id} is told to have made r{revision}, and before it was r{before}")
        return revision

    def seen(self, edit: Edit, known: Collection[str]) -> None:
        """An edit is told once more, to somebody who knew beforehand that those of `known` are applied."""
        if edit.id in known or edit.status in APPLIED:
            self.applied(edit)

    def settle(self, lines: Sequence[Revision], edits: Iterable[Edit]) -> None:
        """The whole ledger, oldest first and with all active edits, and all edits, once nothing moves any more."""
        check_ledger(lines)
        for line in lines:
            self.listed(line)
        require(len(lines) == self.head + 1, f"the ledger ends at r{len(lines) - 1}, and r{self.head} was seen")
        told = {edit.id: self.applied(edit) for edit in edits if edit.status in APPLIED}
        written = {line.edit: line.revision for line in lines if line.kind is RevisionKind.EDIT}
        require(told == written, f"applied edits are {told}, and the ledger has {written}")
        require(self.edits == told, "an edit was seen applied that is not listed any more")
        check_states(self._said, {line.revision: line.checksum for line in lines})


def require(holds: bool, what: str) -> None:
    """Raise WrongAnswerError unless it holds."""
    if not holds:
        raise WrongAnswerError(what)


def check_ledger(lines: Sequence[Revision]) -> None:
    """No number is missing, each revision's active edits follow from those before, and equal states weigh the same."""
    numbers = [line.revision for line in lines]
    require(numbers == list(range(len(lines))), f"the ledger has the numbers {numbers}")
    made = {str(line.edit): line.revision for line in lines if line.kind is RevisionKind.EDIT}
    active: list[tuple[str, ...]] = []
    checksums: dict[tuple[str, ...], str] = {}
    for line in lines:
        name = f"r{line.revision}"
        require(line.parent == (line.revision - 1 if line.revision else None), f"{name} has the parent {line.parent}")
        active.append(tuple(sorted(_active(line, active), key=made.__getitem__)))
        require(line.active == active[-1], f"{name} has {line.active} in force, and from its kind follows {active[-1]}")
        require(line.active_count == len(line.active), f"{name} counts {line.active_count} of {len(line.active)} edits")
        known = checksums.setdefault(line.active, line.checksum)
        require(known == line.checksum, f"{name} has the checksum {line.checksum}, and {known} had the same edits")


def _active(line: Revision, before: Sequence[tuple[str, ...]]) -> Iterable[str]:
    edit = str(line.edit)
    match line.kind:
        case RevisionKind.BASE:
            return ()
        case RevisionKind.ROLLBACK:
            require(line.to in range(len(before)), f"r{line.revision} goes back to r{line.to}")
            return before[line.to or 0]
        case RevisionKind.REVERT:
            require(edit in before[-1], f"r{line.revision} takes out {edit}, which was not in force")
            return (other for other in before[-1] if other != edit)
        case RevisionKind.EDIT | RevisionKind.REAPPLY:
            require(edit not in before[-1], f"r{line.revision} puts in {edit}, which was in force")
            return (*before[-1], edit)


def check_states(said: Mapping[tuple[str, int], str], checksums: Mapping[int, str]) -> None:
    """Revisions of one checksum, such as a rollback and what it went back to, say the same."""
    known: dict[tuple[str, str], tuple[int, str]] = {}
    for (prompt, revision), text in said.items():
        require(revision in checksums, f"r{revision} has spoken, and is not in the ledger")
        other, same = known.setdefault((prompt, checksums[revision]), (revision, text))
        require(same == text, f"r{revision} says {text!r} after {prompt!r}, and r{other}, its equal, {same!r}")


def check_target(target: str, text: str) -> None:
    """An edit's target is what is said, or begins it where the text is cut earlier."""
    said = text.strip()
    require(bool(said) and (said.startswith(target) or target.startswith(said)), f"{target!r} is not in {text!r}")
