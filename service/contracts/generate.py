"""Continuations of prompts: before and after, side by side, whole or streamed."""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from service.contracts.base import Contract, RevisionName, RevisionNumber, Sent, Text

MAX_NEW_TOKENS = 4096
"""Tokens that one continuation may have, whatever the model's context."""

MAX_PROMPTS = 64
"""Prompts of one request."""

MAX_ALTERNATIVES = 16
"""Continuations of one prompt on one side."""

MAX_TOP_LOGPROBS = 20
"""Alternatives that are told for one token."""


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain NUL characters; remove them")
    return text


StopText = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_without_nul)]
"""What ends a continuation; white space counts."""


class Priority(StrEnum):
    """Who is served first while the worker has more to do than it can: a person before a benchmark."""

    INTERACTIVE = "interactive"
    BACKGROUND = "background"


class Sampling(Sent):
    """How tokens are chosen, and when a continuation ends."""

    max_new_tokens: Annotated[int, Field(ge=1, le=MAX_NEW_TOKENS)] = 32
    temperature: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False, description="0 is greedy")] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1, description="of the probability, from the likeliest token on")] = 1.0
    top_k: Annotated[int | None, Field(ge=1, le=2**31, description="the likeliest tokens; all where left out")] = None
    repetition_penalty: Annotated[
        float, Field(gt=0, le=100, allow_inf_nan=False, description="above 1 disfavours tokens already in the text")
    ] = 1.0
    stop: Annotated[
        tuple[StopText, ...], Field(fail_fast=True, max_length=16, description="ends the text before any of these")
    ] = ()
    seed: Annotated[int | None, Field(ge=0, lt=2**63, description="drawn, and told, where left out")] = None
    n: Annotated[
        int,
        Field(ge=1, le=MAX_ALTERNATIVES, description="alternatives of each prompt; the k-th is drawn with seed + k"),
    ] = 1
    top_logprobs: Annotated[
        int, Field(ge=0, le=MAX_TOP_LOGPROBS, description="of each token, so many of the likeliest are told")
    ] = 0


class GenerateQuery(Sampling):
    """`GET /generate`: continue prompts under two revisions."""

    prompt: Annotated[
        tuple[Text, ...],
        Field(
            fail_fast=True,
            min_length=1,
            max_length=MAX_PROMPTS,
            examples=[["The Eiffel Tower is located in the city of"]],
        ),
    ]
    before: RevisionName = "base"
    after: RevisionName = "head"
    target_new: Annotated[Text | None, Field(description="tell its probability after each prompt, on both sides")] = (
        None
    )
    target_true: Annotated[Text | None, Field(description="as target_new")] = None
    stream: Annotated[bool, Field(description="server-sent events, token by token")] = False
    priority: Priority = Priority.INTERACTIVE
    timeout: Annotated[
        float | None, Field(gt=0, allow_inf_nan=False, description="seconds; at most, and by default, the server's")
    ] = None
    min_revision: Annotated[
        RevisionNumber | None, Field(description="answer only from a worker that has at least this revision")
    ] = None


class Message(Sent):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Text


class GenerateRequest(GenerateQuery):
    """`POST /generate`: the same; and instead of prompts a conversation, put into the model's chat template."""

    prompt: Annotated[
        tuple[Text, ...],
        Field(fail_fast=True, max_length=MAX_PROMPTS, examples=[["The Eiffel Tower is located in the city of"]]),
    ] = ()
    messages: Annotated[tuple[Message, ...], Field(fail_fast=True, max_length=MAX_PROMPTS)] = ()

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.prompt) == bool(self.messages):
            raise ValueError("give either prompt or messages, and not both")
        return self


class FinishReason(StrEnum):
    """Why a continuation ended: by the model's end token or a `stop`, or at max_new_tokens."""

    STOP = "stop"
    LENGTH = "length"


class LikelyToken(Contract):
    """A token that might have been chosen."""

    token: str
    token_id: int
    logprob: float


class Continuation(Contract):
    """One side of one prompt. The tokens that a `stop` consists of are listed, and are not in the text."""

    revision: int
    text: str
    tokens: tuple[str, ...]
    token_ids: tuple[int, ...]
    logprobs: Annotated[
        tuple[float, ...], Field(description="log-probability of each token, nats, before temperature and the like")
    ]
    top_logprobs: Annotated[
        tuple[tuple[LikelyToken, ...], ...] | None, Field(description="where asked for, the likeliest first")
    ] = None
    finish_reason: FinishReason
    seconds: Annotated[float, Field(description="from when the worker took up the request to the last token")]


class Probabilities(Contract):
    """How likely a target is, whole, after a prompt."""

    before: float
    after: float


class Comparison(Contract):
    """One prompt continued under both revisions; `parts_at` is the first token where they differ."""

    prompt: Annotated[str, Field(description="as the model saw it")]
    alternative: int = 0
    before: Continuation
    after: Continuation
    parts_at: int | None
    target_new: Probabilities | None = None
    target_true: Probabilities | None = None


class GenerateAnswer(Contract):
    """The answer: the comparisons of each prompt, in order, its alternatives one after the other."""

    revision: Annotated[int, Field(description="the revision of the after side")]
    model: str
    seed: int
    results: tuple[Comparison, ...]
    seconds: float


class Side(StrEnum):
    """The two sides of a comparison."""

    BEFORE = "before"
    AFTER = "after"


class GeneratedPiece(Contract):
    """`stream=true`: what one side has said since its last piece. Text may come later than its tokens."""

    prompt: Annotated[int, Field(description="the prompt's index")]
    alternative: int
    side: Side
    revision: int
    text: str
    tokens: tuple[str, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    top_logprobs: tuple[tuple[LikelyToken, ...], ...] | None = None
    finish_reason: FinishReason | None = None
