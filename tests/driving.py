"""Drive computations that yield between their steps."""

from collections.abc import Generator
from typing import Any, TypeVar

import torch

from worker.editing.context import EditContext
from worker.editing.covariance import Covariance
from worker.editing.progress import Step
from worker.engine.resident import Resident
from worker.engine.state import State
from worker.models.loaded import LoadedModel

Result = TypeVar("Result")


def finish(steps: Generator[Step, None, Result]) -> Result:
    """The result of a computation, run to its end."""
    return finish_noting(steps)[0]


def finish_noting(steps: Generator[Step, None, Result]) -> tuple[Result, list[Step]]:
    """The result of a computation, and the steps it went through."""
    seen: list[Step] = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as end:
            result: Result = end.value
            return result, seen


def context_of(
    loaded: LoadedModel, covariances: Any = None, active_keys: Any = None, compute_dtype: Any = None
) -> EditContext:
    """An edit's context on the base, that takes the templates from the hyperparameters.

    covariances: C by layer; active_keys: K_0 by layer.
    """
    state = State(Resident(loaded), {})
    known = active_keys or {}

    def prefixes(hparams: Any) -> Generator[Step, None, Any]:
        yield from ()
        return hparams.context_templates

    def given(*_: Any) -> Generator[Step, None, Any]:
        yield from ()
        return {layer: Covariance(matrix, 1000) for layer, matrix in covariances.items()}

    def keys(layer: int) -> Any:
        return known.get(layer, torch.empty(state.resident.base_of_layer(layer).shape[1], 0))

    return EditContext(loaded, prefixes, given, state.view, keys, compute_dtype)
