"""The resident model and its methods, as its worker publishes them."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from service.contracts.base import Contract


class MethodCard(Contract):
    """An editing method and its hyperparameters on the resident model."""

    name: str
    title: str
    source: str
    batch: Annotated[
        bool, Field(description="computes all facts of a batch at once; otherwise one after the other, in one revision")
    ] = False
    hparams_schema: Annotated[dict[str, Any], Field(description="JSON Schema of `hparams`")]
    defaults: Annotated[
        dict[str, Any] | None, Field(description="the values for this model; null where none are shipped")
    ]


class Ceilings(Contract):
    """Drift of the head from which on further edits are refused; null where there is no limit."""

    perplexity_ratio: float | None = None
    kl: float | None = None
    norm: Annotated[float | None, Field(description="of any one layer")] = None


NO_CEILINGS = Ceilings()
"""The head may drift as far as it will."""


class ModelCard(Contract):
    """What the worker knows of the model it holds."""

    name: str
    family: str
    dtype: str
    device: str
    parameters: int
    layers: int
    hidden_size: int
    context_length: Annotated[int, Field(description="tokens")]
    editable: Annotated[str, Field(description="the weights that edits rewrite, {} being the layer")]
    checksum: Annotated[str, Field(description="of the base weights")]
    tokenizer: Annotated[str, Field(description="sha256 of the tokenizer")]
    methods: tuple[MethodCard, ...]
    template_tokens: Annotated[int, Field(description="most tokens that a context template puts before a prompt")]
    ceilings: Ceilings = NO_CEILINGS
    chat: Annotated[bool, Field(description="has a chat template")] = False


class WorkerState(StrEnum):
    """What the worker is doing."""

    STARTING = "starting"
    READY = "ready"
    BEHIND = "behind"
    STALLED = "stalled"
    STOPPING = "stopping"


class WorkerStatus(Contract):
    """A worker's heartbeat; it disappears when the worker does."""

    worker: str
    pid: int
    leader: Annotated[bool, Field(description="it holds the lease: it alone edits, and moves the head")] = False
    state: WorkerState
    detail: str
    revision: Annotated[int | None, Field(description="the one that it serves")] = None
    step_seconds: Annotated[
        float, Field(description="how long the running step has taken; of a stalled worker too long")
    ] = 0.0
    since: datetime


class ModelStatus(Contract):
    """`GET /model`: the card, the head, and what it changed."""

    card: ModelCard
    revision: int
    checksum: str
    edited_tensors: tuple[str, ...]
    edited_layers: tuple[int, ...]
    worker: Annotated[WorkerStatus | None, Field(description="the leader; without one, any")]
    workers: tuple[WorkerStatus, ...] = ()


class MethodList(Contract):
    """`GET /methods`."""

    model: str
    methods: tuple[MethodCard, ...]
    revision: int | None
