"""The resident model in step with the ledger: boot, old states, commit and rollback."""

from collections.abc import Callable, Mapping, Sequence

import torch
from redis.exceptions import RedisError
from torch import Tensor

from service.contracts.edits import Outcome
from service.contracts.revisions import Entry, Revision, RevisionKind
from service.edits import applied_fields, utcnow
from service.errors import not_found
from service.ledger import FencedError, HeadMovedError, Ledger
from worker.editing.delta import WeightDelta
from worker.engine.blobs import BlobStore
from worker.engine.resident import Resident, RevisionCache, digests
from worker.engine.state import State
from worker.errors import CorruptStateError, LeaseLostError, WorkerError, WrongBaseError
from worker.models.view import Weights


class History:
    """What the ledger says, and the model as it follows from it.

    token: the lease's fencing token; on_head: called after every change of the head.
    """

    def __init__(
        self,
        resident: Resident,
        ledger: Ledger,
        blobs: BlobStore,
        token: str,
        on_head: Callable[[], None] = lambda: None,
    ) -> None:
        self.resident = resident
        self._ledger = ledger
        self._blobs = blobs
        self._token = token
        self._on_head = on_head
        self._cache = RevisionCache()
        self._state: State | None = None

    def boot(self) -> None:
        """Bring the model to the ledger's head, checked; the first boot of a model writes r0."""
        if self._ledger.head() is None:
            base = Entry(
                revision=0,
                parent=None,
                kind=RevisionKind.BASE,
                checksum=self.resident.base_checksum,
                tensors={},
                created_at=utcnow(),
            )
            self._append(base)
        entries = self._ledger.entries()
        if entries[0].checksum != self.resident.base_checksum:
            raise WrongBaseError(
                f"The ledger of {self.resident.loaded.name} was begun with other base weights or another dtype "
                f"(checksum {entries[0].checksum[:16]}…, here {self.resident.base_checksum[:16]}…). "
                "Start with the model and dtype it was begun with, or with another data directory."
            )
        head = entries[-1].revision
        self.resident.install(head, self.weights_at(head))

    def weights_at(self, revision: int) -> Weights:
        """The edited weights of a revision, rebuilt and checked against the ledger where they are not at hand."""
        if revision == self.resident.revision:
            return self.resident.installed
        cached = self._cache.get(revision)
        if cached is None:
            cached = self._fold(revision).weights
            self._check(revision, cached)
            self._cache.put(revision, cached)
        return cached

    @property
    def state(self) -> State:
        """The head, held so that more can be added; folded when first asked for."""
        if self._state is None:
            self._state = self._fold(self.resident.revision)
        return self._state

    def active_keys(self, layer: int) -> Tensor:
        """[d, N] float32: the keys that the head's active edits were solved for at a layer."""
        deltas = self._active_deltas(self.resident.revision)
        known = [delta.keys[layer] for delta in deltas if layer in delta.keys]
        width = self.resident.base_of_layer(layer).shape[1]
        return torch.cat([torch.empty(width, 0), *known], dim=1)

    def commit(self, edit_id: str, parent: int, delta: WeightDelta, state: State, outcome: Outcome) -> Revision:
        """Make an edit part of history and of the model: blob, then ledger and edit in one step, then weights.

        state: the head's with the delta on top. Raises EditEndedError if the edit was cancelled meanwhile, and then
        only an unnamed blob has been written.
        """
        tensors = digests(state.weights)
        entry = Entry(
            revision=parent + 1,
            parent=parent,
            kind=RevisionKind.EDIT,
            edit=edit_id,
            blob=self._blobs.put(delta),
            checksum=self.resident.checksum(tensors),
            tensors=tensors,
            created_at=utcnow(),
        )
        fields = applied_fields(entry.revision, outcome)
        self._append(entry, edit_id, fields)
        revision = self._installed(entry, state.weights)
        self._state = state
        return revision

    def rollback(self, to: int) -> Revision:
        """Append a revision with the active edits of `to`, and install it; 404 if there is no such revision."""
        parent = self.resident.revision
        if to > parent:
            raise not_found(f"revision r{to}", f"Revisions r0 to r{parent} exist.")
        weights = self.weights_at(to)
        known = self._ledger.entries()[to]
        entry = Entry(
            revision=parent + 1,
            parent=parent,
            kind=RevisionKind.ROLLBACK,
            to=to,
            checksum=known.checksum,
            tensors=known.tensors,
            created_at=utcnow(),
        )
        self._append(entry)
        return self._installed(entry, weights)

    def _append(self, entry: Entry, edit_id: str = "", fields: Mapping[str, str] | None = None) -> None:
        try:
            self._ledger.append(entry, token=self._token, edit_id=edit_id, edit_fields=fields)
        except (FencedError, HeadMovedError) as error:
            raise LeaseLostError("Another worker has taken over this model.") from error
        except RedisError as error:
            # It may have been appended or not. Only a fresh start from the ledger can tell.
            raise WorkerError(f"Redis was lost while r{entry.revision} was being committed: {error}") from error

    def _installed(self, entry: Entry, weights: Weights) -> Revision:
        self._cache.put(self.resident.revision, self.resident.installed)
        self.resident.install(entry.revision, weights)
        self._state = None
        self._on_head()
        return self._ledger.revision(entry.revision)

    def _fold(self, revision: int) -> State:
        """A revision from the base and its active deltas, in ledger order."""
        return State.fold(self.resident, self._active_deltas(revision))

    def _active_deltas(self, revision: int) -> Sequence[WeightDelta]:
        return [self._blobs.get(entry.blob or "") for entry in self._ledger.active(revision)]

    def _check(self, revision: int, weights: Weights) -> None:
        expected = self._ledger.entries()[revision]
        found = digests(weights)
        for name, digest in found.items():
            if expected.tensors.get(name) != digest:
                raise CorruptStateError(f"r{revision}: {name} does not have the checksum that the ledger names.")
        if self.resident.checksum(found) != expected.checksum:
            raise CorruptStateError(f"r{revision} does not have the checksum that the ledger names.")
