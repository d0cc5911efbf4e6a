"""Check a ledger: its chain, its second copy, every blob, every edit, and with the model every state."""

from collections.abc import Iterator, Mapping, Sequence

from service.active import Lines
from service.contracts.edits import EditStatus
from service.contracts.revisions import Entry
from worker.editing.delta import WeightDelta
from worker.engine.blobs import decode_blob
from worker.engine.mirror import Line, lines, spans
from worker.engine.resident import digests
from worker.engine.state import State
from worker.errors import CorruptStateError, WrongBaseError
from worker.tools.chain import sound_part
from worker.tools.folds import states
from worker.tools.report import Finding, Report
from worker.tools.restore import EDIT
from worker.tools.site import Site


class Check:
    """One pass over a site; `run` reports. A worker may serve meanwhile.

    What is read first can only be behind what is read later: the mirror, then Redis, and blobs before both.
    """

    def __init__(self, site: Site, restored: Sequence[int] = ()) -> None:
        self._site = site
        self._restored = tuple(restored)
        self._sizes = site.blobs.sizes()
        self._mirrored = site.mirror.revisions()
        self._head = site.head
        self._findings: list[Finding] = []
        self._lines = Lines()
        self._lost: set[str] = set()

    def run(self, *, fold: bool) -> Report:
        """Check everything; with `fold` also that the blobs give the states that the ledger names."""
        self._check_behind()
        self._lines, flaw = sound_part(line.entry for line in self._compared())
        if flaw is not None:
            self._find("chain", flaw)
        self._check_blobs()
        self._check_pending()
        states = self._check_states() if fold and self._lines.entries else None
        return self._report(states)

    def _find(self, kind: str, what: str) -> None:
        self._findings.append(Finding(kind=kind, what=what))

    def _check_behind(self) -> None:
        beyond = [revision for revision in self._mirrored if revision > self._head]
        if beyond:
            self._find(
                "behind", f"Redis lacks {spans(beyond)}, which the mirror has: palimpsest fsck --restore puts them back"
            )
        for revision in sorted(beyond):
            self._mirror_line(revision)

    def _compared(self) -> Iterator[Line]:
        """The lines of Redis, each after it was compared with its copy."""
        try:
            for line in lines(self._site.redis, self._site.keys, 0, self._head):
                self._check_line(line)
                yield line
        except CorruptStateError as error:
            self._find("chain", str(error))

    def _check_line(self, line: Line) -> None:
        if line.edit is not None:
            self._check_document(line)
        if line.revision in self._mirrored and (copy := self._mirror_line(line.revision)) is not None:
            if copy.entry != line.entry:
                self._find("mirror", f"r{line.revision} is another in Redis than in the mirror")
            elif _anywhere(copy.edit) != _anywhere(line.edit):
                self._find("mirror", f"edit {line.entry['edit']} is another in Redis than in the mirror")

    def _mirror_line(self, revision: int) -> Line | None:
        try:
            return self._site.mirror.read(revision)
        except CorruptStateError as error:
            self._find("mirror", str(error))
            return None

    def _check_document(self, line: Line) -> None:
        fields, edit_id = line.edit or {}, line.entry.get("edit")
        if not fields:
            self._find("edit", f"edit {edit_id} of r{line.revision} has no document")
        elif (fields.get("status"), fields.get("revision")) != (EditStatus.APPLIED, str(line.revision)):
            self._find("edit", f"edit {edit_id} made r{line.revision}, and its document says {fields.get('status')}")

    def _check_blobs(self) -> None:
        committed: dict[str, list[Entry]] = {}
        for entry in self._lines.committed.values():
            committed.setdefault(str(entry.blob), []).append(entry)
        for blob, named_by in committed.items():
            try:
                decode_blob(blob, self._site.blobs.content(blob))
            except (CorruptStateError, ValueError) as error:
                self._lost.add(blob)
                edits = tuple(str(entry.edit) for entry in named_by)
                self._findings.append(
                    Finding(kind="blob", what=str(error), edits=edits, revisions=self._needing(edits))
                )

    def _needing(self, edits: Sequence[str]) -> tuple[int, ...]:
        """The revisions in which any of the edits is in force."""
        there = [self._lines.in_force(edit) for edit in edits]
        return tuple(revision for revision, needed in enumerate(zip(*there, strict=True)) if any(needed))

    def _check_pending(self) -> None:
        redis, keys = self._site.redis, self._site.keys
        pipeline = redis.pipeline(transaction=True)  # an edit may end meanwhile, but not between these two
        edits = redis.zrange(keys.jobs(EDIT), 0, -1)
        for edit_id in edits:
            pipeline.hget(keys.edit(edit_id), "status")
            pipeline.zscore(keys.pending, edit_id)
        answers = iter(pipeline.execute())
        for edit_id, status, waits in zip(edits, answers, answers, strict=True):
            unended = status in (EditStatus.QUEUED, EditStatus.RUNNING)
            if status is None:
                self._find("edit", f"edit {edit_id} is listed and has no document")
            elif unended and waits is None:
                self._find("edit", f"edit {edit_id} is {status}, and nobody will take it up: it is not pending")
            elif not unended and waits is not None:
                self._find("edit", f"edit {edit_id} is {status}, and is pending all the same")
        unlisted = [edit for edit in self._lines.committed if edit not in set(edits)]
        for edit_id in unlisted:
            self._find("edit", f"edit {edit_id} was committed, and is not listed")

    def _check_states(self) -> int:
        resident, entries = self._site.resident(), self._lines.entries
        if resident.base_checksum != entries[0].checksum:
            raise WrongBaseError(
                "The ledger was begun with other base weights or another dtype than --model and --dtype name, so no "
                "state can be folded again. Name those, or check the rest with --no-fold."
            )
        count = 0
        for state, revisions in states(resident, self._lines, self._delta, self._lost):
            count += 1
            self._compare(state, [entries[revision] for revision in revisions])
        return count

    def _compare(self, state: State, entries: Sequence[Entry]) -> None:
        found = digests(state.weights)
        checksum = state.resident.checksum(found)
        wrong = [entry for entry in entries if checksum != entry.checksum or not _holds(entry, found)]
        if wrong:
            names = sorted({name for entry in wrong for name in found if entry.tensors.get(name) != found[name]})
            numbers = tuple(entry.revision for entry in wrong)
            what = f"the blobs do not give the checksums of {spans(numbers)} ({', '.join(names) or 'the whole model'})"
            self._findings.append(Finding(kind="state", what=what, revisions=numbers))

    def _delta(self, entry: Entry) -> WeightDelta:
        return self._site.blobs.get(str(entry.blob))

    def _report(self, states: int | None) -> Report:
        entries = self._lines.entries
        lost = {revision for finding in self._findings for revision in finding.revisions}
        unnamed = self._sizes.keys() - {entry.blob for entry in entries}
        return Report(
            model=self._site.keys.model,
            head=self._head if self._head >= 0 else None,
            checksum=entries[-1].checksum if entries else None,
            edits=len(self._lines.committed),
            blobs=len({entry.blob for entry in self._lines.committed.values()}),
            states=states,
            restored=self._restored,
            findings=tuple(self._findings),
            reachable=tuple(revision for revision in range(len(entries)) if revision not in lost),
            unmirrored=tuple(sorted(set(range(self._head + 1)) - self._mirrored)),
            unnamed=len(unnamed),
            unnamed_bytes=sum(self._sizes[blob] for blob in unnamed),
        )


def _holds(entry: Entry, found: Mapping[str, str]) -> bool:
    return all(entry.tensors.get(name) == digest for name, digest in found.items())


def _anywhere(fields: Mapping[str, str] | None) -> Mapping[str, str]:
    """What must be the same wherever an edit lies; its place in the list need not."""
    return {name: value for name, value in (fields or {}).items() if name != "seq"}
