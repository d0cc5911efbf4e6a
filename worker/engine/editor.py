"""One edit from request to revision: compute, measure on both sides, commit; all or nothing."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from service.checks import check_drift
from service.contracts.edits import AnyEditRequest, BatchRequest, Outcome
from service.contracts.model import NO_CEILINGS, Ceilings
from service.contracts.revisions import Revision
from service.contracts.scores import Drift
from service.errors import ProblemError
from service.ledger import HeadMovedError
from worker.editing.delta import WeightDelta
from worker.editing.hparams import Hparams
from worker.editing.method import Method
from worker.editing.progress import Step, Steps, within
from worker.engine.computation import Computation, sound
from worker.engine.history import History
from worker.engine.notes import Notes
from worker.engine.state import State
from worker.engine.verdict import Uncommitted, judge, uncommitted
from worker.statistics.store import StatisticsStore

log = logging.getLogger(__name__)


class Editor:
    """Computes edits on the resident model. Runs on the model thread."""

    def __init__(
        self,
        history: History,
        methods: Mapping[str, Method],
        defaults: Callable[[str], Mapping[str, Any] | None],
        statistics: StatisticsStore,
        compute_dtype: torch.dtype | None = None,
        ceilings: Ceilings = NO_CEILINGS,
    ) -> None:
        self._history = history
        self._resident = history.resident
        self.computation = Computation(self._resident, methods, defaults, statistics, compute_dtype)
        self._ceilings = ceilings

    def run(self, edit_id: str, request: AnyEditRequest) -> Steps[Revision | Uncommitted]:
        """Compute, measure and commit an edit. If the head moves meanwhile, it is computed again on the new one.

        What misses the request's requirements, or is a dry run, is measured and not committed.
        """
        hparams = self.computation.hparams(request.method, request.hparams)
        while True:
            parent = self._resident.revision
            if request.base_revision not in (None, parent):
                raise ProblemError(
                    409, "head-moved", f"The head is r{parent}, and base_revision asks for r{request.base_revision}."
                )
            check_drift(self._history.drift, self._ceilings)
            try:
                return (yield from self._attempt(edit_id, request, hparams, parent))
            except HeadMovedError:
                log.info("edit %s: the head moved from r%d; computing again", edit_id, parent)

    def _attempt(
        self, edit_id: str, request: AnyEditRequest, hparams: Hparams, parent: int
    ) -> Steps[Revision | Uncommitted]:
        notes = Notes()
        computing = self._compute(request, hparams)
        delta = yield from self._while_head_is(parent, notes.taken(computing, "update"))
        state = sound(delta, self._history.state)
        judging = judge(self._resident, request.facts, state.weights)
        verdict = yield from self._while_head_is(parent, notes.taken(judging, "generate"))
        drift = yield from self._while_head_is(parent, notes.taken(self._drift(state), "drift"))
        outcome = Outcome(
            hparams=hparams.model_dump(mode="json"),
            summary=verdict.summary,
            facts=verdict.facts,
            metrics=verdict.metrics,
            generations=verdict.generations,
            drift=drift,
            timings=notes.seconds,
            warnings=tuple(notes.warnings),
        )
        if (end := uncommitted(request.require, outcome, dry_run=request.dry_run)) is not None:
            return end
        yield Step("commit", 1, 1)
        return self._commit(edit_id, parent, delta, state, outcome)

    def _drift(self, state: State) -> Steps[Drift]:
        yield Step("drift", 1, 1)
        return self._history.measured_drift(state)

    def _compute(self, request: AnyEditRequest, hparams: Hparams) -> Steps[WeightDelta]:
        one = not isinstance(request, BatchRequest)
        state, keys = self._history.state, self._history.active_keys
        return self.computation.delta(request.method, request.facts, hparams, state, keys, one=one)

    def _commit(self, edit_id: str, parent: int, delta: WeightDelta, state: State, outcome: Outcome) -> Revision:
        if self._resident.revision != parent:
            raise HeadMovedError
        return self._history.commit(edit_id, parent, delta, state, outcome)

    def _while_head_is(self, parent: int, steps: Steps[Any]) -> Steps[Any]:
        @contextmanager
        def unmoved() -> Iterator[None]:
            if self._resident.revision != parent:
                raise HeadMovedError
            yield

        return within(unmoved, steps)
