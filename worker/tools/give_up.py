"""The way on where the head needs a blob that is lost for good: back to the newest revision that does not."""

from collections.abc import Iterator

from service.active import Lines
from service.contracts.revisions import Entry, RevisionKind
from service.jobs import utcnow
from service.ledger import Ledger
from worker.engine.mirror import Line
from worker.errors import WorkerError
from worker.tools.report import Report
from worker.tools.restore import append_lines
from worker.tools.site import Site


def roll_back(site: Site, report: Report) -> Iterator[str]:
    """Append a rollback to the newest revision that the report calls reachable, if the head is not; says what was done.

    Nothing is computed: that revision's checksums are in the ledger. Raises WorkerError, and then nothing has changed.
    """
    if report.head is None or report.head in report.reachable:
        yield "The head needs nothing that is damaged, so nothing was rolled back."
        return
    others = sorted({finding.kind for finding in report.findings} - {"blob", "state"})
    if others or not report.reachable:
        raise WorkerError(f"More than blobs is damaged ({', '.join(others)}): mend that first. Nothing was changed.")
    lines = Ledger(site.redis, site.keys).lines()
    known = lines.entries[max(report.reachable)]
    entry = Entry(
        revision=report.head + 1,
        parent=report.head,
        kind=RevisionKind.ROLLBACK,
        to=known.revision,
        checksum=known.checksum,
        tensors=known.tensors,
        drift=known.drift,
        created_at=utcnow(),
    )
    append_lines(site.redis, site.keys, [Line(entry.model_dump(mode="json"))])
    yield f"r{entry.revision} is a rollback to r{known.revision}, the newest revision that needs nothing damaged."
    sound = list(_sound(lines, report, known.revision))
    if sound:
        yield f"Sound, and no longer in force; palimpsest reapply puts each back: {', '.join(sound)}"


def _sound(lines: Lines, report: Report, to: int) -> Iterator[str]:
    """The edits in force at the head, and not at `to`, whose blobs are as they should be."""
    lost = {edit for finding in report.findings for edit in finding.edits}
    there = {entry.edit for entry in lines.active(to)}
    for entry in lines.active(report.head or 0):
        if entry.edit not in there and entry.edit not in lost:
            yield str(entry.edit)
