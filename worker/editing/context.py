"""What a method may use: the model as the head has it, templates, key statistics, and what was edited before."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from worker.editing.covariance import Covariance
from worker.editing.delta import Change
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


View = Callable[[], AbstractContextManager[None]]
"""Makes a context that is entered during each step of a computation, and left between them."""


@dataclass(frozen=True)
class EditContext:
    """The computation's surroundings; nothing in it writes to the model.

    prefixes: the context templates as prefixes, "" first.
    covariances: C of the keys of each layer asked for, on the base weights.
    view: makes contexts in which the model computes with these changes of its layers on top of what it starts from.
    active_keys: [d, N] float32, the keys that the edits active at the head were solved for, at one layer.
    compute_dtype: what the value optimisation's forward pass runs in; None is the model's own.
    """

    loaded: LoadedModel
    prefixes: Callable[[ValueHparams], Steps[Sequence[str]]]
    covariances: Callable[[Sequence[int], CovarianceHparams], Steps[Mapping[int, Covariance]]]
    view: Callable[[Mapping[int, Change]], View]
    active_keys: Callable[[int], Tensor]
    compute_dtype: torch.dtype | None = None
