"""A trace: where in the model the states lie that its answer to a prompt depends on (ROME, section 2)."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, field_validator

from service.contracts.base import Contract, Text
from service.contracts.jobs import ReadingJob, ReadingRequest
from service.contracts.subject import SubjectPrompt

MOST_SAMPLES = 100
"""Noise samples of one trace; the paper takes ten."""

MOST_TOKENS = 256
"""Tokens of a traced prompt with its answer: restorations grow with their square, and no picture shows more."""

MOST_SUBJECTS = 2_000
"""Subjects whose embeddings scale the noise; the paper's set has 1209."""


class Kind(StrEnum):
    """Which states are restored: a block's output, or what its MLP or its attention adds."""

    HIDDEN = "hidden"
    MLP = "mlp"
    ATTN = "attn"


class Traced(StrEnum):
    """At which tokens states are restored."""

    ALL = "all"
    SUBJECT = "subject"
    LAST_SUBJECT = "last-subject"


class TraceRequest(ReadingRequest, SubjectPrompt):
    """`POST /traces`: causal tracing of what the model answers to a prompt, at a revision."""

    target: Annotated[
        Text | None, Field(description="the answer; by default the one token that the model finds likeliest")
    ] = None
    kinds: Annotated[tuple[Kind, ...], Field(fail_fast=True, min_length=1, description="which states are restored")] = (
        tuple(Kind)
    )
    tokens: Annotated[Traced, Field(description="of the prompt, those at which states are restored")] = Traced.ALL
    samples: Annotated[int, Field(ge=1, le=MOST_SAMPLES, description="runs with different noise")] = 10
    noise: Annotated[
        float, Field(gt=0, le=100, description="its standard deviation, in those of the subjects' embeddings")
    ] = 3.0
    noise_subjects: Annotated[
        tuple[Text, ...],
        Field(
            fail_fast=True,
            max_length=MOST_SUBJECTS,
            description="whose; by default those of the facts that the project ships",
        ),
    ] = ()
    window: Annotated[
        int | None,
        Field(ge=1, le=1000, description="layers of MLP or attention restored together; by default 10 for 48 layers"),
    ] = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0

    @field_validator("kinds")
    @classmethod
    def _once(cls, kinds: tuple[Kind, ...]) -> tuple[Kind, ...]:
        if len(set(kinds)) < len(kinds):
            raise ValueError("must name each kind once")
        return kinds


class Effects(Contract):
    """Indirect effects of one kind of state: P(answer) with a state restored less P(answer) without."""

    mean: Annotated[tuple[tuple[float, ...], ...], Field(description="[traced tokens, layers], over the noise samples")]
    error: Annotated[
        tuple[tuple[float, ...], ...] | None, Field(description="its standard error; null of one sample")
    ] = None


class TraceResult(Contract):
    """What a trace found. All probabilities are of the whole answer, by teacher forcing."""

    revision: Annotated[int, Field(description="the revision that was traced")]
    checksum: Annotated[str, Field(description="of that revision")]
    target: Annotated[str, Field(description="the answer")]
    known: Annotated[bool, Field(description="the model itself says it: each of its tokens is the likeliest")]
    tokens: Annotated[tuple[str, ...], Field(description="the prompt's")]
    subject: Annotated[tuple[int, int], Field(description="its first token, and the one after its last")]
    traced: Annotated[tuple[int, ...], Field(description="the tokens at which states were restored")]
    high: Annotated[float, Field(description="P(answer) in the clean run")]
    low: Annotated[float, Field(description="P(answer) with noise on the subject, mean over the samples")]
    low_error: Annotated[float | None, Field(description="its standard error; null of one sample")] = None
    sigma: Annotated[float, Field(description="standard deviation of the subjects' embeddings")]
    noise: Annotated[float, Field(description="standard deviation of the noise")]
    window: Annotated[int, Field(description="layers of MLP or attention restored together, around the one named")]
    effects: Annotated[dict[Kind, Effects], Field(description="by kind; in lists and events they are left out")] = (
        Field(default_factory=dict)
    )
    timings: Annotated[dict[str, float], Field(description="seconds by phase")]


class Trace(ReadingJob[TraceRequest]):
    """A trace as the API shows it. Only `GET /traces/{id}` has the effects."""

    noun = "trace"

    result: TraceResult | None = None


class TracePage(Contract):
    """`GET /traces`: newest first; `next` is the cursor of the following page."""

    traces: tuple[Trace, ...]
    next: int | None = None
    revision: Annotated[int | None, Field(description="the head; null before a worker has ever started")]
