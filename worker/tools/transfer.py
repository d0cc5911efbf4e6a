"""Take a ledger to another installation of the same base model."""

import hashlib
import logging
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from service.active import Lines
from service.contracts.edits import Edit, EditStatus
from service.contracts.model import ModelCard
from service.contracts.revisions import RevisionKind
from service.documents import Shape
from worker.engine.blobs import SUFFIX, decode_blob
from worker.engine.mirror import Line, lines
from worker.errors import StorageError, WorkerError, WrongBaseError
from worker.tools.archive import ArchiveError, Manifest, Member, read_archive, read_manifest, write_archive
from worker.tools.chain import sound_part
from worker.tools.restore import append_lines
from worker.tools.site import Site

log = logging.getLogger(__name__)

EDIT_ID = re.compile("[0-9a-f]{16}")


def export_ledger(site: Site, path: Path) -> Manifest:
    """Write the whole history, as it is now, to a new file. Raises CorruptStateError if a blob is damaged."""
    head = site.require_ledger()
    history, flaw = sound_part(line.entry for line in lines(site.redis, site.keys, 0, head))
    if flaw is not None:
        raise WorkerError(f"The ledger is not sound, so it was not exported; palimpsest fsck says more. {flaw}")
    members: dict[str, Member] = {}
    contents: list[tuple[str, Callable[[], bytes]]] = []
    for line in lines(site.redis, site.keys, 0, head):
        name, content = f"ledger/{line.revision:08}.json", line.dump()
        members[name] = Member(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
        contents.append((name, partial(_line, site, line.revision)))
    sizes = site.blobs.sizes()
    for blob in sorted({str(entry.blob) for entry in history.committed.values()}):
        members[f"blobs/{blob}{SUFFIX}"] = Member(sha256=blob, bytes=sizes.get(blob, 0))
        contents.append((f"blobs/{blob}{SUFFIX}", partial(site.blobs.content, blob)))
    manifest = _manifest(site, history, members)
    write_archive(path, manifest, contents)
    return manifest


def _line(site: Site, revision: int) -> bytes:
    return next(lines(site.redis, site.keys, revision, revision)).dump()


def _manifest(site: Site, history: Lines, members: dict[str, Member]) -> Manifest:
    card = site.redis.get(site.keys.card)
    return Manifest(
        model=site.keys.model,
        base=history.entries[0].checksum,
        dtype=ModelCard.model_validate_json(card).dtype if card else None,
        head=history.entries[-1].checksum,
        revisions=len(history.entries),
        edits=len(history.committed),
        members=members,
    )


def import_ledger(site: Site, path: Path) -> Manifest:
    """Take over all revisions of an archive where there are none yet; raises WorkerError, and nothing was changed."""
    manifest = read_manifest(path)
    site.mirror.check()
    if (head := site.head) > 0:
        raise WorkerError(
            f"The ledger of {site.keys.model} here has r{head} already, and edits can be imported only where there are "
            "none: at r0, or before the first start. Use another data directory, or another Redis and PALIMPSEST_BLOBS."
        )
    added = _verified(path, manifest)
    _check_base(site, manifest)
    for name, content in read_archive(path):
        if (blob := _blob_in(name)) is not None:
            site.blobs.add(blob, content)
    append_lines(site.redis, site.keys, added[head + 1 :])
    try:
        site.mirror.keep_up()
    except StorageError as error:
        log.warning("the ledger's second copy is written at the next start: %s", error)
    return manifest


def _check_base(site: Site, manifest: Manifest) -> None:
    if site.head == 0:
        base = next(lines(site.redis, site.keys, 0, 0)).entry["checksum"]
    else:
        base = site.resident().base_checksum
    if base != manifest.base:
        raise WrongBaseError(
            f"The edits were made on {manifest.model} in {manifest.dtype or 'an unknown dtype'} (base checksum "
            f"{manifest.base[:16]}…), and here the base is another ({base[:16]}…). Nothing was changed. "
            "Name that model with --model, and its --dtype."
        )


def _verified(path: Path, manifest: Manifest) -> Sequence[Line]:
    """The archive's lines, after everything in it was checked."""
    found: list[Line] = []
    blobs: set[str] = set()
    for name, content in read_archive(path):
        try:
            if (blob := _blob_in(name)) is not None:
                decode_blob(blob, content)
                blobs.add(blob)
            else:
                found.append(Line.parse(content))
        except ValueError as error:
            raise ArchiveError(f"{path}: {name} is damaged: {error}") from error
    history, flaw = sound_part(line.entry for line in found)
    if flaw is None:
        flaw = _disagreement(history, manifest, blobs) or next(filter(None, map(_flaw_of_edit, found)), None)
    if flaw is not None:
        raise ArchiveError(f"{path}: {flaw}")
    return found


def _disagreement(history: Lines, manifest: Manifest, blobs: set[str]) -> str | None:
    entries = history.entries
    if not entries or (entries[0].checksum, entries[-1].checksum) != (manifest.base, manifest.head):
        return "the manifest is of another ledger than the lines"
    if blobs != {entry.blob for entry in history.committed.values()}:
        return "its blobs are not those that its lines name"
    return None


def _flaw_of_edit(line: Line) -> str | None:
    """Why an edit cannot have been committed with this line, or could not be shown; None if it can."""
    edit_id = line.entry["edit"]
    if (line.edit is not None) != (line.entry["kind"] == RevisionKind.EDIT):
        return f"r{line.revision} must have the document of an edit if, and only if, it made one"
    if line.edit is None:
        return None
    if not (EDIT_ID.fullmatch(str(edit_id)) and all(isinstance(value, str) for value in line.edit.values())):
        return f"edit {edit_id!r} of r{line.revision} is none"
    fields, shape = {name: value for name, value in line.edit.items() if value}, Shape(Edit, "outcome")
    try:
        edit = shape.assemble(edit_id, fields, shape.stays(fields), None)
        number = int(fields["seq"])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        return f"edit {edit_id} of r{line.revision} cannot be read: {error!r}"
    if (edit.status, edit.revision) != (EditStatus.APPLIED, line.revision) or number < 1:
        return f"edit {edit_id} does not say that it made r{line.revision}"
    return None


def _blob_in(name: str) -> str | None:
    return name.removeprefix("blobs/").removesuffix(SUFFIX) if name.startswith("blobs/") else None
