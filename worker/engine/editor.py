"""One edit from request to revision: compute, measure on both sides, commit; all or nothing."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from service.contracts.edits import EditRequest, Generations, Outcome
from service.contracts.problem import FieldError
from service.contracts.revisions import Revision
from service.contracts.scores import Metrics
from service.errors import ProblemError, invalid
from service.ledger import HeadMovedError
from worker.editing.context import EditContext
from worker.editing.delta import WeightDelta
from worker.editing.hparams import CovarianceHparams, ValueHparams
from worker.editing.method import Method
from worker.editing.progress import Step, Steps, timed, within
from worker.editing.templates import sample
from worker.engine.generation import Wanted, decode
from worker.engine.history import History
from worker.engine.view import Weights
from worker.evaluation.metrics import measure
from worker.statistics import corpus, moments

log = logging.getLogger(__name__)

SHOWN_TOKENS = 12
"""Length of the continuations shown with an edit."""


class Editor:
    """Computes edits on the resident model. Runs on the model thread."""

    def __init__(
        self,
        history: History,
        methods: Mapping[str, Method],
        defaults: Callable[[str], Mapping[str, Any] | None],
        statistics_dir: Path,
        corpus_file: Path | None,
    ) -> None:
        self._history = history
        self._resident = history.resident
        self._methods = methods
        self._defaults = defaults
        self._statistics_dir = statistics_dir
        self._corpus_file = corpus_file
        self._prefixes: dict[tuple[Any, ...], Sequence[str]] = {}

    def run(self, edit_id: str, request: EditRequest) -> Steps[Revision]:
        """Compute, measure and commit an edit. If the head moves meanwhile, it is computed again on the new one."""
        method = self._methods[request.method]
        hparams = self._hparams(method, request)
        while True:
            parent = self._resident.revision
            if request.base_revision not in (None, parent):
                raise ProblemError(
                    409, "head-moved", f"The head is r{parent}, and base_revision asks for r{request.base_revision}."
                )
            try:
                return (yield from self._attempt(edit_id, request, method, hparams, parent))
            except HeadMovedError:
                log.info("edit %s: the head moved from r%d; computing again", edit_id, parent)

    def _attempt(
        self, edit_id: str, request: EditRequest, method: Method, hparams: ValueHparams, parent: int
    ) -> Steps[Revision]:
        timings: dict[str, float] = {}
        computing = method.compute(self._context(), (request,), hparams)
        delta = yield from self._while_head_is(parent, timed(computing, timings, "update"))
        weights = self._history.candidate(delta)
        # The weights too: a finite delta may be more than the model's dtype can hold.
        if not (delta.is_finite() and all(bool(tensor.isfinite().all()) for tensor in weights.values())):
            raise ProblemError(
                422,
                "edit-diverged",
                "The computed change is not finite. Lower hparams.v_lr or hparams.clamp_norm_factor.",
            )
        judging = self._judge(request, weights)
        metrics, generations = yield from self._while_head_is(parent, timed(judging, timings, "generate"))
        outcome = Outcome(
            hparams=hparams.model_dump(mode="json"), metrics=metrics, generations=generations, timings=timings
        )
        yield Step("commit", 1, 1)
        return self._commit(edit_id, parent, delta, weights, outcome)

    def _commit(self, edit_id: str, parent: int, delta: WeightDelta, weights: Weights, outcome: Outcome) -> Revision:
        if self._resident.revision != parent:
            raise HeadMovedError
        return self._history.commit(edit_id, parent, delta, weights, outcome)

    def _while_head_is(self, parent: int, steps: Steps[Any]) -> Steps[Any]:
        @contextmanager
        def unmoved() -> Iterator[None]:
            if self._resident.revision != parent:
                raise HeadMovedError
            yield

        return within(unmoved, steps)

    def _judge(self, request: EditRequest, weights: Weights) -> Steps[tuple[Metrics, Generations]]:
        def sides(rows: int) -> AbstractContextManager[None]:
            return self._resident.view([{}] * rows + [weights] * rows)

        metrics = yield from measure(self._resident.loaded, request, sides)
        rows = [Wanted(request.prompt, 0, side, SHOWN_TOKENS) for side in ({}, weights)]
        before, after = decode(self._resident.loaded, self._resident.view, rows)
        return metrics, Generations(prompt=request.prompt, before=before.text, after=after.text)

    def _hparams(self, method: Method, request: EditRequest) -> ValueHparams:
        values = {**(self._defaults(method.name) or {}), **request.hparams}
        try:
            return method.hparams.model_validate(values)
        except ValidationError as error:
            errors = [
                FieldError(field=".".join(("hparams", *map(str, e["loc"]))), detail=e["msg"]) for e in error.errors()
            ]
            detail = "; ".join(f"{e.field}: {e.detail}" for e in errors)
            raise ProblemError(422, "invalid-hparams", detail, errors=errors) from error

    def _context(self) -> EditContext:
        return EditContext(loaded=self._resident.loaded, prefixes=self._templates, covariance=self._covariance)

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

    def _covariance(self, layer: int, hparams: CovarianceHparams) -> Steps[Tensor]:
        """C of the base weights, computed once and kept in the data directory."""
        loaded, tokens = self._resident.loaded, hparams.mom2_n_tokens
        if hparams.mom2_dataset == "corpus":
            if self._corpus_file is None:
                raise invalid(
                    "hparams.mom2_dataset", "the worker was started without PALIMPSEST_CORPUS; use 'self'", "no-corpus"
                )
            source, batches = corpus.digest(self._corpus_file), corpus.from_file(loaded, self._corpus_file, tokens)
        else:
            source, batches = "self", corpus.from_model(loaded, tokens, seed=0)
        path = moments.cache_path(self._statistics_dir, self._resident.base_checksum, layer, source, tokens)
        if not path.is_file():
            total, count = yield from self._on_base(moments.second_moment(loaded, layer, batches, tokens))
            moments.save(path, total, count)
        return moments.load(path)
