"""A stand whose ledger and blobs the tools can work on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from service.keys import Keys
from tests.families import tiny_model
from tests.worker.engine.kit import Stand, dense_delta, random_delta
from worker.engine.blobs import BlobStore
from worker.engine.mirror import Mirror
from worker.engine.resident import Resident
from worker.settings import Settings
from worker.tools.site import Site


@dataclass(frozen=True)
class TinySite(Site):
    """A site whose model is a tiny one, freshly loaded whenever it is asked for."""

    family: str = "llama"

    def resident(self) -> Resident:
        return Resident(tiny_model(self.family))


def site_of(redis: Redis, keys: Keys, folder: Path, family: str = "llama") -> TinySite:
    """The site of the stand in a folder, or of one that is yet to be."""
    place = folder / "blobs"
    settings = Settings(model=keys.model, data_dir=folder)
    return TinySite(settings, redis, keys, BlobStore(place), Mirror(place, redis, keys), family)


def varied(stand: Stand) -> list[str]:
    """A history with every kind of revision; the ids of its edits.

    r1 r2 r3 edits, r4 to r1, r5 an edit, r6 without the first, r7 with it again, r8 to r3.
    """
    loaded = stand.loaded
    made = [stand.commit(random_delta(loaded, 1, seed=seed)) for seed in range(2)]
    made.append(stand.commit(dense_delta(loaded, 1, 2, seed=2)))
    stand.history.rollback(1)
    made.append(stand.commit(random_delta(loaded, 2, seed=3)))
    ids = [str(revision.edit) for revision in made]
    stand.history.revert(ids[0])
    stand.history.reapply(ids[0])
    stand.history.rollback(3)
    return ids


def stopped(stand: Stand) -> Any:
    """The stand's Redis, once no worker holds the model."""
    stand.redis.delete(stand.keys.lease)
    return stand.redis


def rewritten(stand: Stand, entries: Any) -> None:
    """Let the ledger in Redis be these entries alone."""
    stand.redis.delete(stand.keys.ledger)
    for number, entry in enumerate(entries):
        stand.redis.xadd(stand.keys.ledger, {"entry": entry.model_dump_json()}, id=f"{number}-1")


def flip(path: Path) -> None:
    """Change one bit."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def truncate(path: Path) -> None:
    """Cut the end off."""
    path.write_bytes(path.read_bytes()[:-4])


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "flipped": (flip, "is damaged: its checksum differs"),
    "truncated": (truncate, "is damaged: its checksum differs"),
    "missing": (Path.unlink, "is missing from"),
}
"""How a blob is damaged, and what is said of it."""
