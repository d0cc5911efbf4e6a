"""One edit from request to revision: compute, measure on both sides, commit; all or nothing."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import ValidationError

from service.checks import check_drift
from service.contracts.edits import AnyEditRequest, BatchRequest, Outcome
from service.contracts.model import NO_CEILINGS, Ceilings
from service.contracts.problem import FieldError
from service.contracts.revisions import Revision
from service.contracts.scores import Drift
from service.errors import ProblemError
from service.ledger import HeadMovedError
from worker.editing.context import EditContext
from worker.editing.delta import WeightDelta, joined
from worker.editing.hparams import Hparams, ValueHparams
from worker.editing.method import Method
from worker.editing.progress import Step, Steps, numbered, within
from worker.editing.templates import sample
from worker.engine.history import History
from worker.engine.notes import Notes
from worker.engine.state import State
from worker.engine.verdict import Uncommitted, judge, uncommitted
from worker.errors import EditError
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
        self._methods = methods
        self._defaults = defaults
        self._statistics = statistics
        self._compute_dtype = compute_dtype
        self._ceilings = ceilings
        self._prefixes: dict[tuple[Any, ...], Sequence[str]] = {}

    def run(self, edit_id: str, request: AnyEditRequest) -> Steps[Revision | Uncommitted]:
        """Compute, measure and commit an edit. If the head moves meanwhile, it is computed again on the new one.

        What misses the request's requirements, or is a dry run, is measured and not committed.
        """
        method = self._methods[request.method]
        hparams = self._hparams(method, request)
        while True:
            parent = self._resident.revision
            if request.base_revision not in (None, parent):
                raise ProblemError(
                    409, "head-moved", f"The head is r{parent}, and base_revision asks for r{request.base_revision}."
                )
            check_drift(self._history.drift, self._ceilings)
            try:
                return (yield from self._attempt(edit_id, request, method, hparams, parent))
            except HeadMovedError:
                log.info("edit %s: the head moved from r%d; computing again", edit_id, parent)

    def _attempt(
        self, edit_id: str, request: AnyEditRequest, method: Method, hparams: Hparams, parent: int
    ) -> Steps[Revision | Uncommitted]:
        notes = Notes()
        computing = self._compute(method, request, hparams)
        delta = yield from self._while_head_is(parent, notes.taken(computing, "update"))
        state = self._history.state.plus(delta)
        if not (delta.is_finite() and state.is_finite()):
            raise ProblemError(
                422,
                "edit-diverged",
                "The computed change is not finite. Lower hparams.clamp_norm_factor or the learning rate "
                "(hparams.v_lr, of fine-tuning hparams.lr).",
            )
        state.check()
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

    def _compute(self, method: Method, request: AnyEditRequest, hparams: Hparams) -> Steps[WeightDelta]:
        """The delta of all facts; a method that takes one fact is given one after another, each under those before."""
        facts, state = request.facts, self._history.state
        if method.batch and len(facts) > 1:
            return (yield from method.compute(self._context(state), facts, hparams))
        deltas: list[WeightDelta] = []
        for index, fact in enumerate(facts):
            steps = within(state.view({}), method.compute(self._context(state), (fact,), hparams))
            try:
                deltas.append((yield from numbered(steps, index, len(facts))))
            except EditError as error:
                raise error.of_fact(index) if isinstance(request, BatchRequest) else error from None
            state = state.plus(deltas[-1])
        return joined(deltas)

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

    def _hparams(self, method: Method, request: AnyEditRequest) -> Hparams:
        values = {**(self._defaults(method.name) or {}), **request.hparams}
        try:
            return method.hparams.model_validate(values)
        except ValidationError as error:
            errors = [
                FieldError(field=".".join(("hparams", *map(str, e["loc"]))), detail=e["msg"]) for e in error.errors()
            ]
            detail = "; ".join(f"{e.field}: {e.detail}" for e in errors)
            raise ProblemError(422, "invalid-hparams", detail, errors=errors) from error

    def _context(self, state: State) -> EditContext:
        return EditContext(
            loaded=self._resident.loaded,
            prefixes=self._templates,
            covariances=lambda layers, hparams: self._on_base(self._statistics.covariances(layers, hparams)),
            view=state.view,
            active_keys=self._history.active_keys,
            compute_dtype=self._compute_dtype,
        )

    def _on_base(self, steps: Steps[Any]) -> Steps[Any]:
        return within(lambda: self._resident.view([{}]), steps)

    def _templates(self, hparams: ValueHparams) -> Steps[Sequence[str]]:
        """Sampled from the base weights, so that an edit's templates do not depend on the edits before it."""
        if hparams.context_templates is not None:
            return hparams.context_templates
        key = (hparams.context_template_length_params, hparams.seed)
        if key not in self._prefixes:
            sampling = sample(self._resident.loaded, hparams.context_template_length_params, hparams.seed)
            self._prefixes[key] = yield from self._on_base(sampling)
        return self._prefixes[key]
