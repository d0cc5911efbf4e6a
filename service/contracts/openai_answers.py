"""What clients of OpenAI's API are answered: models, completions, chat completions, their chunks, and errors.

Source: OpenAI's API reference. Field names, nesting and what is null are theirs.
"""

from typing import Annotated, Literal

from pydantic import Field

from service.contracts.base import Contract
from service.contracts.generate import FinishReason


class ServedModel(Contract):
    """A revision by a name that requests may give as `model`."""

    id: str
    object: Literal["model"]
    created: Annotated[int, Field(description="when the revision was made, Unix seconds")]
    owned_by: str


class ServedModels(Contract):
    """The head, the base, and the newest revisions; any other revision is there too, and not listed."""

    object: Literal["list"]
    data: tuple[ServedModel, ...]


class Usage(Contract):
    """Tokens: of each prompt once, and of all alternatives."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TextLogprobs(Contract):
    """The tokens of a completion, in nats; an offset is the number of characters in the tokens before."""

    tokens: tuple[str, ...]
    token_logprobs: tuple[float, ...]
    top_logprobs: Annotated[
        tuple[dict[str, float], ...], Field(description="the token that was chosen is among the likeliest, or added")
    ]
    text_offset: tuple[int, ...]


class TextChoice(Contract):
    """One completion, or in a stream what it has grown by. index: the prompt's times n, plus the alternative's."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Annotated[FinishReason | None, Field(description="null in a stream until the last chunk")]


class Completion(Contract):
    """The answer of `POST /v1/completions`, and each chunk of it as a stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: Annotated[str, Field(description="as it was asked for")]
    system_fingerprint: Annotated[str, Field(description="the revision that speaks: r3")]
    choices: tuple[TextChoice, ...]
    usage: Usage | None = None


class LikelyChatToken(Contract):
    """A token that might have been chosen; bytes: null where the token is a part of a character."""

    token: str
    logprob: float
    bytes: tuple[int, ...] | None


class ChatToken(LikelyChatToken):
    """A token, and the likeliest in its place."""

    top_logprobs: tuple[LikelyChatToken, ...]


class ChatLogprobs(Contract):
    """The tokens of a message."""

    content: tuple[ChatToken, ...]
    refusal: None


class ChatAnswer(Contract):
    """What the model says."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(Contract):
    """One alternative."""

    index: int
    message: ChatAnswer
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(Contract):
    """The answer of `POST /v1/chat/completions`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: Annotated[str, Field(description="as it was asked for")]
    system_fingerprint: Annotated[str, Field(description="the revision that speaks: r3")]
    choices: tuple[ChatChoice, ...]
    usage: Usage


class ChatDelta(Contract):
    """What a message has grown by: first its role, then its text, last nothing."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatChunkChoice(Contract):
    """What one alternative has grown by."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: Annotated[FinishReason | None, Field(description="null until the last chunk")]


class ChatChunk(Contract):
    """One event of a chat completion as a stream."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[ChatChunkChoice, ...]
    usage: Annotated[Usage | None, Field(description="of the last chunk, where it is asked for")] = None


class OpenAIError(Contract):
    """What is wrong; code: the last part of the type that the same problem has elsewhere in this API."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIErrorAnswer(Contract):
    """The body of every error under /v1."""

    error: OpenAIError
