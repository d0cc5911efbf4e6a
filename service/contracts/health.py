"""Whether the service lives, and whether it can do its work."""

from typing import Annotated, Literal

from pydantic import Field

from service.contracts.base import Contract
from service.contracts.model import WorkerStatus


class Health(Contract):
    """`GET /health`: the process lives."""

    status: Literal["ok"] = "ok"
    model: str
    version: Annotated[str, Field(description="of the service")]


class WorkerLag(WorkerStatus):
    """A worker, and how far it is from the head."""

    lag: Annotated[int | None, Field(description="revisions behind the head; null while it serves none")]


class Ready(Contract):
    """`GET /ready`: a worker serves the head."""

    status: Literal["ready"] = "ready"
    model: str
    revision: int
    worker: Annotated[WorkerStatus, Field(description="one that serves the head: the leader, if it does")]
    workers: tuple[WorkerLag, ...] = ()
