"""The delta of some facts on any state of the resident model, by any method; nothing is committed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from service.contracts.edits import Fact
from service.contracts.problem import FieldError
from service.errors import ProblemError
from worker.editing.context import EditContext
from worker.editing.delta import WeightDelta, joined
from worker.editing.hparams import Hparams, ValueHparams
from worker.editing.method import Method
from worker.editing.progress import Steps, numbered, within
from worker.editing.templates import sample
from worker.engine.resident import Resident
from worker.engine.state import State
from worker.errors import EditError
from worker.statistics.store import StatisticsStore

ActiveKeys = Callable[[int], Tensor]
"""[d, N] float32: the keys that the edits in a state were solved for, at one layer."""


class Computation:
    """Computes deltas on the resident model. Runs on the model thread.

    defaults: the shipped hyperparameters by method.
    """

    def __init__(
        self,
        resident: Resident,
        methods: Mapping[str, Method],
        defaults: Callable[[str], Mapping[str, Any] | None],
        statistics: StatisticsStore,
        compute_dtype: torch.dtype | None = None,
    ) -> None:
        self._resident = resident
        self._methods = methods
        self._defaults = defaults
        self._statistics = statistics
        self._compute_dtype = compute_dtype
        self._prefixes: dict[tuple[Any, ...], Sequence[str]] = {}

    def hparams(self, method: str, changes: Mapping[str, Any]) -> Hparams:
        """The shipped hyperparameters with some of them changed; a 422 problem if they are none of the method's."""
        values = {**(self._defaults(method) or {}), **changes}
        try:
            return self._methods[method].hparams.model_validate(values)
        except ValidationError as error:
            errors = [
                FieldError(field=".".join(("hparams", *map(str, e["loc"]))), detail=e["msg"]) for e in error.errors()
            ]
            detail = "; ".join(f"{e.field}: {e.detail}" for e in errors)
            raise ProblemError(422, "invalid-hparams", detail, errors=errors) from error

    def delta(
        self, method: str, facts: Sequence[Fact], hparams: Hparams, state: State, keys: ActiveKeys, *, one: bool = False
    ) -> Steps[WeightDelta]:
        """The delta of all facts; a method that takes one fact is given one after another, each under those before.

        one: the fact is alone in its request, so an error need not say which it is.
        """
        compute = self._methods[method].compute
        if self._methods[method].batch and len(facts) > 1:
            return (yield from compute(self._context(state, keys), facts, hparams))
        deltas: list[WeightDelta] = []
        for index, fact in enumerate(facts):
            steps = within(state.view({}), compute(self._context(state, keys), (fact,), hparams))
            try:
                deltas.append((yield from numbered(steps, index, len(facts))))
            except EditError as error:
                raise error if one else error.of_fact(index) from None
            state = state.plus(deltas[-1])
        return joined(deltas)

    def _context(self, state: State, keys: ActiveKeys) -> EditContext:
        return EditContext(
            loaded=self._resident.loaded,
            prefixes=self._templates,
            covariances=lambda layers, hparams: self._on_base(self._statistics.covariances(layers, hparams)),
            view=state.view,
            active_keys=keys,
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


def sound(delta: WeightDelta, state: State) -> State:
    """The state with a delta on top; a problem unless all of it is finite, and exact."""
    edited = state.plus(delta)
    if not (delta.is_finite() and edited.is_finite()):
        raise ProblemError(
            422,
            "edit-diverged",
            "The computed change is not finite. Lower hparams.clamp_norm_factor or the learning rate "
            "(hparams.v_lr, of fine-tuning hparams.lr).",
        )
    edited.check()
    return edited
