"""Compares what was read and rebuilt with what the ledger names, and has counted what differs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.contracts.revisions import Entry
from worker.engine.resident import Resident, digests
from worker.errors import CorruptStateError, MissingBlobError
from worker.models.view import Weights


class Checks:
    """Checks of one resident model's revisions. failed: called for each that fails, before anybody is told."""

    def __init__(self, resident: Resident, failed: Callable[[], None]) -> None:
        self._resident = resident
        self._failed = failed
        self._patient = False

    @contextmanager
    def patiently(self, patient: bool) -> Iterator[None]:
        """Have it not counted in here that a blob is missing, which may be on its way."""
        self._patient = patient
        try:
            yield
        finally:
            self._patient = False

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Have a CorruptStateError counted that is raised in here."""
        try:
            yield
        except CorruptStateError as error:
            if not (self._patient and isinstance(error, MissingBlobError)):
                self._failed()
            raise

    def check(self, entry: Entry, weights: Weights) -> None:
        """Raise CorruptStateError unless these are the weights that the entry names."""
        found = digests(weights)
        with self.counted():
            for name, digest in found.items():
                if entry.tensors.get(name) != digest:
                    raise CorruptStateError(
                        f"r{entry.revision}: {name} does not have the checksum that the ledger names."
                    )
            if self._resident.checksum(found) != entry.checksum:
                raise CorruptStateError(f"r{entry.revision} does not have the checksum that the ledger names.")
