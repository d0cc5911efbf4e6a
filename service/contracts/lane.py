"""What travels through the streams: short requests that a worker answers between two steps."""

from typing import Annotated

from pydantic import Field

from service.contracts.base import Contract
from service.contracts.generate import GenerateAnswer, GenerateRequest
from service.contracts.problem import Problem
from service.contracts.revisions import ActivationRequest, Revision, RollbackRequest


class LaneRequest(Contract):
    """One request, where its answer goes, and until when anybody waits for it."""

    id: str
    body: GenerateRequest | RollbackRequest | ActivationRequest
    deadline: Annotated[float, Field(description="Unix time, seconds")]


class LaneAnswer(Contract):
    """Exactly one of the three."""

    generated: GenerateAnswer | None = None
    revision: Revision | None = None
    problem: Problem | None = None
