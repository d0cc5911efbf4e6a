"""Whether the service lives, and whether it can do its work."""

from typing import Literal

from service.contracts.base import Contract
from service.contracts.model import WorkerStatus


class Health(Contract):
    """`GET /health`: the process lives."""

    status: Literal["ok"] = "ok"
    model: str


class Ready(Contract):
    """`GET /ready`: a worker serves the head."""

    status: Literal["ready"] = "ready"
    model: str
    revision: int
    worker: WorkerStatus
