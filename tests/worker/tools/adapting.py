"""An adapter that one installation exports, and another may take over."""

from pathlib import Path
from typing import Any

from service.contracts.exports import ExportKind, ExportRequest
from service.keys import Keys
from service.provenance import provenance
from tests.service.stand_in import model_card
from tests.worker.engine.kit import Stand
from tests.worker.export.desk import ExportDesk, unpacked
from tests.worker.tools.kit import TinySite

HERE, OTHER = Keys("here"), Keys("elsewhere")


def exported(stand: Stand, folder: Path, rank: int = 256) -> Path:
    """The head's adapter, as `palimpsest export` brings it to disk."""
    revision = stand.resident.revision
    desk = ExportDesk(stand, folder.parent)
    found, files = desk.made(export="adapter", revision=revision, rank=rank)
    asked = ExportRequest(export=ExportKind.ADAPTER, revision=revision, rank=rank)
    card = model_card(checksum=stand.resident.base_checksum, name=stand.keys.model)
    manifest = provenance(asked, found, card, stand.ledger, stand.edits)
    return unpacked({**files, "manifest.json": manifest.model_dump_json().encode()}, folder)


def contents(site: TinySite) -> tuple[Any, ...]:
    """What must not change: every key but the counter of leases, the ledger, the blobs."""
    keys = sorted(key for key in site.redis.keys("*elsewhere*") if not key.endswith(":fence"))
    return keys, site.redis.xrange(OTHER.ledger), dict(site.blobs.sizes())
