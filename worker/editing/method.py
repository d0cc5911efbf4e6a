"""A method is a function with a name, a source and a type of hyperparameters; a file that holds one is enough."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worker.editing.context import EditContext, FactLike
from worker.editing.delta import WeightDelta
from worker.editing.hparams import Hparams
from worker.editing.progress import Steps


@dataclass(frozen=True)
class Method:
    """compute(context, facts, hparams) leaves the model bit for bit as it was and returns the delta.

    batch: whether it takes many facts at once; otherwise it takes one.
    """

    name: str
    title: str
    source: str
    hparams: type[Hparams]
    compute: Callable[[EditContext, Sequence[FactLike], Any], Steps[WeightDelta]]
    batch: bool


def discover() -> Mapping[str, Method]:
    """All methods by name: every module of worker.editing.methods has a METHOD."""
    package = importlib.import_module("worker.editing.methods")
    modules = [
        importlib.import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)
    ]
    return {module.METHOD.name: module.METHOD for module in modules}
