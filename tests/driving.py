"""Drive computations that yield between their steps."""

from collections.abc import Generator
from typing import Any, TypeVar

from worker.editing.context import EditContext
from worker.editing.progress import Step
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


def context_of(loaded: LoadedModel, covariance: Any = None) -> EditContext:
    """An edit's context that takes the templates from the hyperparameters."""

    def prefixes(hparams: Any) -> Generator[Step, None, Any]:
        yield from ()
        return hparams.context_templates

    def given(*_: Any) -> Generator[Step, None, Any]:
        yield from ()
        return covariance

    return EditContext(loaded=loaded, prefixes=prefixes, covariance=given)
