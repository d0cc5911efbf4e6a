"""Where an export comes from: what its manifest says, but for the files."""

from service.contracts.exports import Exported, ExportManifest, ExportRequest, ManifestEdit, ManifestFact, ManifestFile
from service.contracts.model import ModelCard
from service.contracts.revisions import Entry
from service.edits import Edits
from service.ledger import Ledger

UNKNOWN = "0" * 64


def provenance(
    asked: ExportRequest, exported: Exported, card: ModelCard, ledger: Ledger, edits: Edits
) -> ExportManifest:
    """The manifest of an export, with the checksums that are known; the others are zeros."""
    revision = asked.revision
    entry = ledger.entries()[revision]
    return ExportManifest(
        kind=asked.export,
        model=card.name,
        family=card.family,
        dtype=card.dtype,
        base=card.checksum,
        revision=revision,
        checksum=entry.checksum,
        tensors=entry.tensors,
        made_at=entry.created_at,
        drift=entry.drift,
        fidelity=exported.fidelity,
        edits=tuple(_edit(line, edits) for line in ledger.active(revision)),
        files={file.name: ManifestFile(sha256=file.sha256 or UNKNOWN, bytes=file.bytes) for file in exported.files},
    )


def _edit(line: Entry, edits: Edits) -> ManifestEdit:
    edit = edits.get(line.edit or "")
    return ManifestEdit(
        edit=edit.id,
        revision=line.revision,
        method=edit.request.method,
        hparams=edit.outcome.hparams if edit.outcome else edit.request.hparams,
        facts=tuple(
            ManifestFact(
                prompt=fact.prompt, subject=fact.subject, target_new=fact.target_new, target_true=fact.target_true
            )
            for fact in edit.request.facts
        ),
        summary=edit.outcome.summary if edit.outcome else None,
    )
