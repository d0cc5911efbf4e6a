"""The resident model in step with the ledger: boot, old states, and every step that moves the head."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from redis.exceptions import RedisError
from torch import Tensor

from service.contracts.access import Asker
from service.contracts.edits import Outcome
from service.contracts.revisions import Entry, Revision, RevisionKind
from service.contracts.scores import Drift
from service.edits import applied_fields
from service.errors import ProblemError, not_found
from service.jobs import utcnow
from service.ledger import FencedError, HeadMovedError, Ledger
from worker.editing.delta import WeightDelta
from worker.engine.blobs import BlobStore
from worker.engine.byte_cache import ByteCache
from worker.engine.checks import Checks
from worker.engine.mirror import Mirror
from worker.engine.resident import Resident, digests
from worker.engine.state import State
from worker.errors import CorruptStateError, LeaseLostError, StorageError, WorkerError, WrongBaseError
from worker.evaluation.drift import DriftMeter
from worker.models.memory import give_back
from worker.models.view import Weights

log = logging.getLogger(__name__)

NOBODY = Asker()

RECENT = 1000
"""Entries among which a request that is asked again is looked for."""

CACHE_BYTES = 2**30
"""Of the weights of old revisions that are kept, and as much again of deltas."""


class History:
    """What the ledger says, and the model as it follows from it.

    token: the lease's fencing token, "" while another worker leads; on_head: called after every change of the head;
    cache_bytes: bounds what is kept of old revisions' weights, and what is kept of deltas; mirror: the ledger's second
    copy, which is written after every append and may know of more than Redis does.
    """

    def __init__(
        self,
        resident: Resident,
        ledger: Ledger,
        blobs: BlobStore,
        token: str = "",
        on_head: Callable[[], None] = lambda: None,
        cache_bytes: int = CACHE_BYTES,
        mirror: Mirror | None = None,
    ) -> None:
        self.resident = resident
        self._checks = Checks(resident, ledger.check_failed)
        self._ledger = ledger
        self._blobs = blobs
        self._token = token
        self._on_head = on_head
        self._mirror = mirror
        self._meter = DriftMeter(resident.loaded, lambda: resident.view([{}]))
        self._weights: ByteCache[Weights] = ByteCache(
            cache_bytes, lambda weights: sum(w.nbytes for w in weights.values())
        )
        self._deltas: ByteCache[WeightDelta] = ByteCache(cache_bytes, lambda delta: delta.nbytes)
        self._state: State | None = None

    def boot(self) -> None:
        """Bring the model to the ledger's head, checked; the first boot of a model writes r0."""
        with _or_end():
            self._check_mirror()
            self._boot()
        self._mirror_it()

    def _boot(self) -> None:
        if self._ledger.head() is None:
            self._append(self._entry(RevisionKind.BASE, {}, None))
        entries = self._ledger.entries()
        if entries[0].checksum != self.resident.base_checksum:
            raise WrongBaseError(
                f"The ledger of {self.resident.loaded.name} was begun with other base weights or another dtype "
                f"(checksum {entries[0].checksum[:16]}…, here {self.resident.base_checksum[:16]}…). "
                "Start with the model and dtype it was begun with, or with another data directory."
            )
        head = entries[-1].revision
        self.resident.install(head, self.weights_at(head))

    def lead(self, token: str) -> None:
        """Append with this fencing token from now on; refused where Redis has lost what was committed."""
        with _or_end():
            self._check_mirror()
        self._token = token
        self._mirror_it()

    def follow(self, *, patient: bool = False) -> None:
        """Bring the model to the head that others have moved, checked. patient: a blob that is missing may come yet."""
        with self._checks.patiently(patient):
            self._follow()

    def _follow(self) -> None:
        new = self._ledger.entries()[self.resident.revision + 1 :]
        if not new:
            return
        try:
            weights = self._followed(new)
        except CorruptStateError as error:
            log.warning("the step to r%d failed, so it is folded again from the blobs: %s", new[-1].revision, error)
            self._state = None
            self._deltas.clear()
            weights = self.weights_at(new[-1].revision)
        self._install(new[-1].revision, weights)

    def _followed(self, new: Sequence[Entry]) -> Weights:
        if self._state is None or any(entry.kind is not RevisionKind.EDIT for entry in new):
            self._state = None
            return self.weights_at(new[-1].revision)
        self._state = self._state.plus(*map(self._delta, new))
        self._checks.check(new[-1], self._state.weights)
        return self._state.weights

    def weights_at(self, revision: int) -> Weights:
        """The edited weights of a revision, rebuilt and checked against the ledger where they are not at hand."""
        if revision == self.resident.revision:
            return self.resident.installed
        entry = self._ledger.entries()[revision]
        cached = self._weights.get(entry.checksum)
        if cached is None:
            cached = State.fold(self.resident, self.deltas_at(revision)).weights
            self._checks.check(entry, cached)
            self._weights.keep(entry.checksum, cached)
        return cached

    def deltas_at(self, revision: int) -> Iterator[WeightDelta]:
        """The deltas in force at a revision, in the order of the ledger; each is read when its turn comes."""
        return map(self._delta, self._ledger.active(revision))

    @property
    def state(self) -> State:
        """The head, held so that more can be added; folded when first asked for."""
        if self._state is None:
            self._state = State.fold(self.resident, self.deltas_at(self.resident.revision))
        return self._state

    @property
    def drift(self) -> Drift | None:
        """The head's drift, where it was measured."""
        return self._ledger.entries()[self.resident.revision].drift

    def measured_drift(self, state: State) -> Drift:
        """The drift of a state that need not be committed."""
        return self._meter.measure(state.view({}), state.norms)

    def forget(self) -> None:
        """Let go of the weights of old revisions; they are rebuilt when they are asked for."""
        self._weights.clear()

    def active_keys(self, layer: int) -> Tensor:
        """[d, N] float32: the keys that the head's active edits were solved for at a layer."""
        deltas = self.deltas_at(self.resident.revision)
        known = [delta.keys[layer] for delta in deltas if layer in delta.keys]
        width = self.resident.base_of_layer(layer).shape[1]
        return torch.cat([torch.empty(width, 0), *known], dim=1)

    def commit(self, edit_id: str, parent: int, delta: WeightDelta, state: State, outcome: Outcome) -> Revision:
        """Make an edit part of history and of the model: blob, then ledger and edit in one step, then weights.

        state: the head's with the delta on top. Raises EditEndedError if the edit was cancelled meanwhile, and then
        only an unnamed blob has been written.
        """
        blob = self._blobs.put(delta)
        self._deltas.keep(blob, delta)
        with _committing(parent + 1):
            fields = {"edit": edit_id, "blob": blob, "drift": outcome.drift, **dict(self._ledger.asker(edit_id))}
        entry = self._entry(RevisionKind.EDIT, state.weights, parent, **fields)
        self._append(entry, edit_id, applied_fields(entry.revision, outcome))
        return self._moved(entry, state.weights, state)

    def made_for(self, request: str) -> Revision | None:
        """The revision that a request has made already: a leader may die before it can say so."""
        found = [entry.revision for entry in self._ledger.entries()[-RECENT:] if entry.request == request]
        return self._ledger.revision(found[0]) if found else None

    def rollback(self, to: int, request: str | None = None, asker: Asker = NOBODY) -> Revision:
        """Append a revision with the active edits of `to`, and install it; 404 if there is no such revision."""
        parent = self.resident.revision
        if to > parent:
            raise not_found(f"revision r{to}", f"Revisions r0 to r{parent} exist.")
        weights = self.weights_at(to)
        known = self._ledger.entries()[to]
        fields = {"to": to, "drift": known.drift, "request": request, **dict(asker)}
        entry = self._entry(RevisionKind.ROLLBACK, weights, parent, **fields)
        self._append(entry)
        return self._moved(entry, weights)

    def revert(self, edit_id: str, request: str | None = None, asker: Asker = NOBODY) -> Revision:
        """Append a revision without an edit that is in force, all others kept; 409 if it is not in force."""
        active = self._ledger.active(self.resident.revision)
        if all(entry.edit != edit_id for entry in active):
            raise ProblemError(
                409, "edit-not-active", f"Edit {edit_id} is not in force at r{self.resident.revision}, so it stays out."
            )
        others = [entry for entry in active if entry.edit != edit_id]
        return self._toggled(RevisionKind.REVERT, others, edit=edit_id, request=request, **dict(asker))

    def reapply(self, edit_id: str, request: str | None = None, asker: Asker = NOBODY) -> Revision:
        """Append a revision with an edit put back where it was; 409 if it is in force, or was never committed."""
        active = self._ledger.active(self.resident.revision)
        entry = self._ledger.lines().committed.get(edit_id)
        if entry is None:
            raise ProblemError(409, "edit-not-applied", f"Edit {edit_id} was never applied, so it cannot be put back.")
        if entry in active:
            raise ProblemError(409, "edit-active", f"Edit {edit_id} is in force at r{self.resident.revision} already.")
        return self._toggled(RevisionKind.REAPPLY, [*active, entry], edit=edit_id, request=request, **dict(asker))

    def _toggled(self, kind: RevisionKind, active: Sequence[Entry], **fields: str | None) -> Revision:
        state = State.fold(self.resident, map(self._delta, active))
        state.check()
        entry = self._entry(kind, state.weights, self.resident.revision, **fields)
        same = [known.drift for known in self._ledger.entries() if known.checksum == entry.checksum and known.drift]
        entry = entry.model_copy(update={"drift": same[0] if same else self.measured_drift(state)})
        self._append(entry)
        return self._moved(entry, state.weights, state)

    def _entry(self, kind: RevisionKind, weights: Weights, parent: int | None, **fields: Any) -> Entry:
        tensors = digests(weights)
        return Entry(
            revision=0 if parent is None else parent + 1,
            parent=parent,
            kind=kind,
            checksum=self.resident.checksum(tensors),
            tensors=tensors,
            created_at=utcnow(),
            **fields,
        )

    def _append(self, entry: Entry, edit_id: str = "", fields: Mapping[str, str] | None = None) -> None:
        with _committing(entry.revision):
            self._ledger.append(entry, token=self._token, edit_id=edit_id, edit_fields=fields)

    def _moved(self, entry: Entry, weights: Weights, state: State | None = None) -> Revision:
        self._state = state
        self._install(entry.revision, weights)
        self._mirror_it()
        return self._ledger.revision(entry.revision)

    def _check_mirror(self) -> None:
        if self._mirror is not None:
            self._mirror.check()

    def _mirror_it(self) -> None:
        """Write what the mirror lacks. It is committed all the same: what fails now is done the next time."""
        if self._mirror is None or not self._token:
            return
        try:
            self._mirror.keep_up()
        except (StorageError, RedisError) as error:
            log.warning("the ledger's second copy lags behind r%d: %s", self.resident.revision, error)

    def _install(self, revision: int, weights: Weights) -> None:
        before = self._ledger.entries()[self.resident.revision]
        self._weights.keep(before.checksum, self.resident.installed)
        self.resident.install(revision, weights)
        self._on_head()
        give_back()

    def _delta(self, entry: Entry) -> WeightDelta:
        blob = entry.blob or ""
        known = self._deltas.get(blob)
        if known is None:
            with self._checks.counted():
                known = self._blobs.get(blob)
            self._deltas.keep(blob, known)
        return known


@contextmanager
def _committing(revision: int) -> Iterator[None]:
    """What goes wrong here ends the worker: whether it was appended, only a fresh start from the ledger can tell."""
    try:
        yield
    except (FencedError, HeadMovedError) as error:
        raise LeaseLostError("Another worker has taken over this model.") from error
    except RedisError as error:
        raise WorkerError(f"Redis was lost while r{revision} was being committed: {error}") from error


@contextmanager
def _or_end() -> Iterator[None]:
    """What stands in the way of a storage stands in the way of the worker, at its start."""
    try:
        yield
    except StorageError as error:
        raise WorkerError(str(error)) from error
