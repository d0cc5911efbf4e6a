"""What travels through the streams: short requests that a worker answers between two steps."""

import time
from typing import Annotated

from pydantic import Field

from service.contracts.base import Contract, RevisionName, Text
from service.contracts.exports import Exported, ExportRequest
from service.contracts.generate import Continuation, FinishReason, LikelyToken, Message, Priority, Sampling
from service.contracts.problem import Problem
from service.contracts.revisions import ActivationRequest, Revision, RollbackRequest


class DecodeRequest(Contract):
    """Continue prompts, or one conversation, under one revision or more.

    A row is one continuation; they are numbered prompt by prompt, in it alternative by alternative, in that revision by
    revision. `sampling.seed` is always given: whoever asks draws it, so that a request that is taken up twice says the
    same.
    """

    prompts: tuple[Text, ...] = ()
    messages: tuple[Message, ...] = ()
    revisions: Annotated[tuple[RevisionName, ...], Field(min_length=1, max_length=2)]
    sampling: Sampling
    fill_context: Annotated[
        bool, Field(description="max_new_tokens is a bound: less where the context has no room for it")
    ] = False
    targets: Annotated[tuple[Text, ...], Field(max_length=2)] = ()
    stream: bool = False
    priority: Priority = Priority.INTERACTIVE
    client: Annotated[str, Field(description="rows are shared out evenly among clients")] = ""


class LaneRequest(Contract):
    """One request, where its answers go, and until when anybody waits for them."""

    id: str
    body: DecodeRequest | RollbackRequest | ActivationRequest | ExportRequest
    deadline: Annotated[float, Field(description="Unix time, seconds")]
    answers: Annotated[str, Field(description="the stream that takes the answers of whoever asks")]
    asked_at: float = Field(default_factory=time.time, description="Unix time, seconds")
    request_id: Annotated[str, Field(description="X-Request-Id of whoever asks")] = ""
    by: Annotated[str, Field(description="name of the API key of whoever asks")] = ""


class Started(Contract):
    """The request is accepted: which revisions speak, in the order of DecodeRequest.revisions, and what is asked."""

    revisions: tuple[int, ...]
    prompts: Annotated[tuple[str, ...], Field(description="as the model sees them; a conversation is one prompt")]
    prompt_tokens: tuple[int, ...]


class Piece(Contract):
    """What a row has said since its last piece."""

    row: int
    text: str
    tokens: tuple[str, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    top_logprobs: tuple[tuple[LikelyToken, ...], ...] | None = None
    finish_reason: FinishReason | None = None


class Decoded(Contract):
    """Everything: one continuation a row, in the order of the rows.

    probabilities: for each prompt, in it for each revision, in that for each target.
    """

    started: Started
    continuations: tuple[Continuation, ...]
    probabilities: tuple[float, ...] = ()
    seconds: float


class LaneAnswer(Contract):
    """Exactly one of these; `decoded`, `revision`, `exported` and `problem` are the last answer to a request.

    `started` and `pieces` come only where `stream` is asked for. A second `started` says that the worker died, and that
    another has begun from the beginning.
    """

    id: Annotated[str, Field(description="of the request")]
    started: Started | None = None
    pieces: tuple[Piece, ...] | None = None
    decoded: Decoded | None = None
    revision: Revision | None = None
    exported: Exported | None = None
    problem: Problem | None = None

    @property
    def last(self) -> bool:
        """Whether nothing more comes."""
        return self.started is None and self.pieces is None
