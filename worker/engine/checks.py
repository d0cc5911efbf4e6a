"""Compares what was rebuilt with the checksums that the ledger names, and counts what differs."""

import logging

from service.contracts.revisions import Entry
from worker.engine.resident import Resident, digests
from worker.errors import CorruptStateError
from worker.models.view import Weights

log = logging.getLogger(__name__)


class Checks:
    """Checks of one resident model's revisions. failures: how many have failed, and blobs that were damaged."""

    def __init__(self, resident: Resident) -> None:
        self._resident = resident
        self.failures = 0

    def check(self, entry: Entry, weights: Weights) -> None:
        """Raise CorruptStateError unless these are the weights that the entry names."""
        found = digests(weights)
        for name, digest in found.items():
            if entry.tensors.get(name) != digest:
                raise self._failed(f"r{entry.revision}: {name} does not have the checksum that the ledger names.")
        if self._resident.checksum(found) != entry.checksum:
            raise self._failed(f"r{entry.revision} does not have the checksum that the ledger names.")

    def _failed(self, what: str) -> CorruptStateError:
        self.failures += 1
        return CorruptStateError(what)
