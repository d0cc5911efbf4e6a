"""Before and after, side by side."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from service.contracts.base import Contract, RevisionName, RevisionNumber, Text


class GenerateRequest(Contract):
    """`GET /generate` and `POST /generate`: continue prompts under two revisions."""

    prompt: Annotated[
        tuple[Text, ...],
        Field(min_length=1, max_length=16, examples=[["The Eiffel Tower is located in the city of"]]),
    ]
    before: RevisionName = "base"
    after: RevisionName = "head"
    max_new_tokens: Annotated[int, Field(ge=1, le=512)] = 32
    temperature: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False, description="0 is greedy")] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int | None, Field(ge=0, lt=2**63, description="drawn, and told, where left out")] = None
    min_revision: Annotated[
        RevisionNumber | None, Field(description="answer only from a worker that has at least this revision")
    ] = None


class FinishReason(StrEnum):
    """Why a continuation ended."""

    STOP = "stop"
    LENGTH = "length"


class Continuation(Contract):
    """One side of one prompt."""

    revision: int
    text: str
    tokens: tuple[str, ...]
    logprobs: Annotated[tuple[float, ...], Field(description="log-probability of each token, nats, before sampling")]
    finish_reason: FinishReason


class Comparison(Contract):
    """One prompt continued under both revisions; `parts_at` is the first token where they differ."""

    prompt: str
    before: Continuation
    after: Continuation
    parts_at: int | None


class GenerateAnswer(Contract):
    """The answer: one comparison a prompt, in order."""

    revision: Annotated[int, Field(description="the revision of the after side")]
    model: str
    seed: int | None
    results: tuple[Comparison, ...]
    seconds: float
