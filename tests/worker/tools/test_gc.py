"""Only what nothing names and nothing will name is deleted."""

import os
import time
from pathlib import Path

import pytest

from tests.worker.engine.kit import Stand, live_checksum, random_delta
from tests.worker.tools.kit import TinySite, rewritten, varied
from worker.engine.blobs import BlobStore
from worker.errors import WorkerError
from worker.tools.gc import YOUNG_SECONDS, Swept, collect


def _aged(folder: Path) -> None:
    old = time.time() - YOUNG_SECONDS - 60
    for path in folder.rglob("*"):
        os.utime(path, (old, old))


def _names(stand: Stand) -> set[str]:
    return {str(path.relative_to(stand.blobs_folder)) for path in stand.blobs_folder.rglob("*") if path.is_file()}


def test_what_nothing_names_is_deleted_once_it_is_old(stand: Stand, site: TinySite) -> None:
    varied(stand)
    kept = _names(stand)
    stray = BlobStore(stand.blobs_folder).put(random_delta(stand.loaded, seed=99))
    partials = [
        stand.blobs_folder / "x.safetensors.1.partial",
        stand.blobs_folder / "ledger" / "00000009.json.1.partial",
        stand.blobs_folder / "exports" / "0123456789abcdef",
    ]
    for path in partials:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"123")
    size = (stand.blobs_folder / f"{stray}.safetensors").stat().st_size + 9
    everything = _names(stand)
    assert collect(site) == Swept(young=4), "a commit may be under way"
    assert _names(stand) == everything
    _aged(stand.blobs_folder)
    assert collect(site, dry_run=True) == Swept(files=4, bytes=size)
    assert _names(stand) == everything
    assert collect(site) == Swept(files=4, bytes=size)
    assert _names(stand) == kept
    assert collect(site) == Swept()


def test_what_was_rolled_back_or_reverted_is_kept(stand: Stand, site: TinySite) -> None:
    varied(stand)
    stand.history.rollback(0)
    _aged(stand.blobs_folder)
    assert collect(site) == Swept()
    stand.history.rollback(8)
    assert live_checksum(stand.loaded) == stand.ledger.entries()[8].checksum


@pytest.mark.parametrize("left", [0, 1, 3])
def test_while_redis_is_behind_nothing_is_deleted(stand: Stand, site: TinySite, left: int) -> None:
    varied(stand)
    rewritten(stand, stand.ledger.entries()[:left])
    _aged(stand.blobs_folder)
    before = _names(stand)
    with pytest.raises(WorkerError, match="Redis lacks "):
        collect(site)
    assert _names(stand) == before


def test_without_any_ledger_nothing_is_deleted(stand: Stand, site: TinySite) -> None:
    """Blobs of before there was a mirror, and a Redis that was lost."""
    varied(stand)
    for path in (stand.blobs_folder / "ledger").iterdir():
        path.unlink()
    stand.redis.flushall()
    _aged(stand.blobs_folder)
    with pytest.raises(WorkerError, match="There is no ledger of test-model here"):
        collect(site)
    assert len(_names(stand)) == 4
