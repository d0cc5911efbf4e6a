"""What fsck finds, as data and in words."""

from collections.abc import Iterator

from service.contracts.base import Contract
from worker.engine.mirror import spans


class Finding(Contract):
    """One thing that is not as it should be.

    kind: behind, chain, mirror, blob, edit or state; what: in one sentence; edits and revisions: what is lost with it.
    """

    kind: str
    what: str
    edits: tuple[str, ...] = ()
    revisions: tuple[int, ...] = ()


class Report(Contract):
    """What was checked, what is wrong, and what follows.

    head: the newest revision in Redis, null if there is none; reachable: the revisions that can still be served or
    rolled back to; states: how many were folded again, null if none was meant to be; unmirrored: revisions that the
    next start or commit will write; unnamed: blobs that nothing names, which gc deletes.
    """

    model: str
    head: int | None
    checksum: str | None
    edits: int
    blobs: int
    states: int | None
    restored: tuple[int, ...]
    findings: tuple[Finding, ...]
    reachable: tuple[int, ...]
    unmirrored: tuple[int, ...]
    unnamed: int
    unnamed_bytes: int

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def in_words(self) -> Iterator[str]:
        """The report, line by line."""
        if self.restored:
            yield f"Restored {spans(self.restored)} in Redis from the mirror."
        head = "no revision" if self.head is None else f"head r{self.head} ({self.checksum})"
        states = "" if self.states is None else f", {self.states} states folded again"
        yield f"{self.model}: {head}, {self.edits} edits, {self.blobs} blobs{states}."
        for finding in self.findings:
            yield f"{finding.kind}: {finding.what}"
            if finding.revisions:
                yield f"  lost with it: {spans(finding.revisions)}; edits {', '.join(finding.edits) or 'none'}"
        if self.findings and self.head is not None:
            yield f"Still reachable: {spans(self.reachable) or 'nothing'}."
        if self.unmirrored:
            yield f"Not in the mirror yet, and written there at the next start: {spans(self.unmirrored)}."
        if self.unnamed:
            yield f"{self.unnamed} blobs ({self.unnamed_bytes} bytes) that nothing names: palimpsest gc deletes them."
        yield "Sound." if self.sound else f"{len(self.findings)} findings."
