"""What a method may use: the model as the head has it, templates and key statistics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from worker.editing.hparams import CovarianceHparams, ValueHparams
from worker.editing.progress import Steps
from worker.models.loaded import LoadedModel


class FactLike(Protocol):
    """What a method reads of a fact."""

    @property
    def prompt(self) -> str: ...  # noqa: D102
    @property
    def subject(self) -> str: ...  # noqa: D102
    @property
    def target_new(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class EditContext:
    """The computation's surroundings; nothing in it writes to the model.

    prefixes: the context templates as prefixes, "" first; covariance: C [d, d] of a layer's keys on the base weights.
    """

    loaded: LoadedModel
    prefixes: Callable[[ValueHparams], Steps[Sequence[str]]]
    covariance: Callable[[int, CovarianceHparams], Steps[Tensor]]
