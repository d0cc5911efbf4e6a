"""Delete blobs that nothing names: of edits that were cancelled in their last moment, or computed again."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from service.contracts.exports import FOLDER
from service.ledger import Ledger
from worker.engine.blobs import SUFFIX
from worker.engine.folder import Folder
from worker.tools.site import Site

YOUNG_SECONDS = 3600.0
"""A commit in flight has written its blob, and names it a moment later."""


@dataclass(frozen=True)
class Swept:
    """How many files were deleted, or would be, with their bytes; and how many are too young to tell."""

    files: int = 0
    bytes: int = 0
    young: int = 0

    def plus(self, size: int, *, young: bool) -> "Swept":
        """With one more file."""
        if young:
            return Swept(self.files, self.bytes, self.young + 1)
        return Swept(self.files + 1, self.bytes + size, self.young)


def collect(site: Site, *, dry_run: bool = False) -> Swept:
    """Delete blobs that no entry names, and what was interrupted left; raises WorkerError unless it is safe."""
    site.require_ledger()
    there = site.blobs.sizes()  # before the ledger is read: what is committed meanwhile is not among them
    named = {entry.blob for entry in Ledger(site.redis, site.keys).entries()}
    unnamed = [(site.blobs.folder, digest + SUFFIX, there[digest]) for digest in there.keys() - named]
    swept = Swept()
    for folder, name, size in (*sorted(unnamed, key=lambda file: file[1]), *_left(site)):
        young = time.time() - folder.modified(name) < YOUNG_SECONDS
        swept = swept.plus(size, young=young)
        if not (young or dry_run):
            folder.delete(name)
    return swept


def _left(site: Site) -> Iterator[tuple[Folder, str, int]]:
    """What interrupted writes have left, and exports that nobody has fetched to the end."""
    for folder in (site.blobs.folder, site.mirror.folder):
        for name, size in folder.sizes().items():
            if name.endswith(".partial"):
                yield folder, name, size
    exports = site.blobs.folder.under(FOLDER)
    for name, size in exports.sizes().items():
        yield exports, name, size
