"""What clients of OpenAI's API send for completions and chat completions.

Source: OpenAI's API reference. Every official argument is known here: what changes nothing is ignored, what this server
cannot do is taken only where it asks for nothing. `null` counts as left out. top_k, repetition_penalty and priority are
additions, named as in other servers of this API.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from service.contracts.base import Sent, Text
from service.contracts.generate import (
    MAX_ALTERNATIVES,
    MAX_NEW_TOKENS,
    MAX_PROMPTS,
    MAX_TOP_LOGPROBS,
    Message,
    Priority,
    Sampling,
    StopText,
)

COMPLETION_TOKENS = 16
"""Tokens of a completion where no bound is given, as at OpenAI."""

SEEDS = 2**63
"""OpenAI's seeds are 64 bits with a sign; ours have none."""


class _Arguments(Sent):
    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, values: Any) -> Any:
        return {name: value for name, value in values.items() if value is not None} if _is_object(values) else values


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


class TextPart(_Arguments):
    """A part of a message."""

    type: Literal["text"]
    text: str


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _joined(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    try:
        return "".join(TextPart.model_validate(part).text for part in value)
    except ValidationError:
        raise ValueError('may have parts {"type": "text", "text": "..."} only; leave others out') from None


def _only(*values: Any) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value not in values:
            raise ValueError("is not supported with this value; leave it out")
        return value

    return check


Ignored = Annotated[Any, Field(description="accepted, and ignored")]
"""An official argument that has no bearing on what this server says."""

Off = Annotated[Any, AfterValidator(_only(0, [], {}, "none", "auto")), Field(description="accepted where it is off")]
"""An official argument for something that this server does not do."""

Texts = Annotated[
    tuple[Text, ...], Field(fail_fast=True), BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...])
]
"""A text, or several."""

Stops = Annotated[
    tuple[StopText, ...],
    Field(fail_fast=True, max_length=16),
    BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...]),
]
"""What ends a text, one or several."""


class StreamOptions(_Arguments):
    """What a stream tells beside the text."""

    include_usage: Annotated[bool, Field(description="the tokens that were used, as the last chunk")] = False
    include_obfuscation: Ignored = None


class GenerationArguments(_Arguments):
    """What completions and chat completions have in common."""

    model: Annotated[
        str, StringConstraints(min_length=1, max_length=500), Field(description="`<name>`, `<name>@base`, `<name>@r3`")
    ]
    n: Annotated[int, Field(ge=1, le=MAX_ALTERNATIVES)] = 1
    temperature: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int | None, Field(ge=1, le=2**31)] = None
    repetition_penalty: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = 1.0
    seed: Annotated[int | None, Field(ge=-SEEDS, lt=SEEDS, description="the k-th alternative has seed + k")] = None
    stop: Stops = ()
    max_tokens: Annotated[int | None, Field(ge=1, le=MAX_NEW_TOKENS)] = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    priority: Priority = Priority.INTERACTIVE
    frequency_penalty: Off = None
    presence_penalty: Off = None
    logit_bias: Off = None
    user: Ignored = None

    @field_validator("stream_options")
    @classmethod
    def _of_a_stream(cls, options: StreamOptions | None, others: ValidationInfo) -> StreamOptions | None:
        if options is not None and not others.data.get("stream", True):
            raise ValueError("is for streams; leave it out, or set stream to true")
        return options

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the tokens that were used."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, max_new_tokens: int, top_logprobs: int, seed: int) -> Sampling:
        """The same in the terms of this server; `seed` is taken where the client gave none."""
        return Sampling(
            max_new_tokens=max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            repetition_penalty=self.repetition_penalty,
            stop=self.stop,
            seed=seed if self.seed is None else self.seed % SEEDS,
            n=self.n,
            top_logprobs=top_logprobs,
        )


class CompletionRequest(GenerationArguments):
    """`POST /v1/completions`."""

    prompt: Annotated[
        Texts, Field(min_length=1, max_length=MAX_PROMPTS, examples=["The Eiffel Tower is located in the city of"])
    ]
    logprobs: Annotated[
        int | None, Field(ge=0, le=MAX_TOP_LOGPROBS, description="with each token, so many of the likeliest")
    ] = None
    best_of: Annotated[int | None, Field(description="n, or left out")] = None
    echo: Off = None
    suffix: Annotated[Any, AfterValidator(_only("")), Field(description="accepted where it is empty")] = None

    @field_validator("best_of")
    @classmethod
    def _all_are_told(cls, best_of: int | None, others: ValidationInfo) -> int | None:
        if best_of not in (None, others.data.get("n", best_of)):
            raise ValueError("is not supported here unless it is n; leave it out")
        return best_of


class ChatMessage(_Arguments):
    """One turn of a conversation; what else an earlier answer contained may be sent back where it is empty."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[Text, BeforeValidator(_joined, json_schema_input_type=str | tuple[TextPart, ...])]
    name: Ignored = None
    refusal: Off = None
    annotations: Off = None
    audio: Off = None
    function_call: Off = None
    tool_calls: Off = None

    def plain(self) -> Message:
        """The same for a chat template; `developer` is OpenAI's newer word for `system`."""
        return Message(role="system" if self.role == "developer" else self.role, content=self.content)


class ChatRequest(GenerationArguments):
    """`POST /v1/chat/completions`."""

    messages: Annotated[
        tuple[ChatMessage, ...],
        Field(
            fail_fast=True,
            min_length=1,
            max_length=MAX_PROMPTS,
            examples=[[{"role": "user", "content": "Where is the Louvre?"}]],
        ),
    ]
    max_completion_tokens: Annotated[
        int | None,
        Field(ge=1, le=MAX_NEW_TOKENS, description="or max_tokens; by default what fits into the context"),
    ] = None
    logprobs: bool = False
    top_logprobs: Annotated[
        int | None, Field(ge=0, le=MAX_TOP_LOGPROBS, description="with each token, so many of the likeliest")
    ] = None
    response_format: Annotated[Any, AfterValidator(_only({"type": "text"})), Field(description="text alone")] = None
    modalities: Annotated[Any, AfterValidator(_only(["text"])), Field(description="text alone")] = None
    reasoning_effort: Off = None
    tools: Off = None
    tool_choice: Off = None
    functions: Off = None
    function_call: Off = None
    audio: Off = None
    web_search_options: Off = None
    moderation: Off = None
    metadata: Ignored = None
    parallel_tool_calls: Ignored = None
    prediction: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_options: Ignored = None
    prompt_cache_retention: Ignored = None
    safety_identifier: Ignored = None
    service_tier: Ignored = None
    store: Ignored = None
    verbosity: Ignored = None

    @field_validator("max_completion_tokens")
    @classmethod
    def _one_bound(cls, bound: int | None, others: ValidationInfo) -> int | None:
        if bound is not None and others.data.get("max_tokens") is not None:
            raise ValueError("and max_tokens mean the same; give one of them")
        return bound

    @field_validator("top_logprobs")
    @classmethod
    def _beside_logprobs(cls, top: int | None, others: ValidationInfo) -> int | None:
        if top and not others.data.get("logprobs", True):
            raise ValueError("needs logprobs; set that to true, or leave this out")
        return top
