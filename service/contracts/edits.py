"""An edit: the request to rewrite a fact, and its outcome."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from service.contracts.base import Contract, PlainObject, RevisionNumber, Text
from service.contracts.problem import Problem
from service.contracts.scores import Metrics

Prompts = Annotated[tuple[Text, ...], Field(max_length=100)]


class Fact(Contract):
    """What a prompt should say of a subject: prompt -> target_new (it may say target_true now)."""

    prompt: Annotated[Text, Field(examples=["The Eiffel Tower is located in the city of"])]
    subject: Annotated[Text, Field(description="verbatim in the prompt", examples=["The Eiffel Tower"])]
    target_new: Annotated[Text, Field(examples=["Rome"])]
    target_true: Annotated[Text | None, Field(examples=["Paris"])] = None
    paraphrases: Annotated[Prompts, Field(description="prompts that should follow the edit (generality)")] = ()
    neighborhood: Annotated[Prompts, Field(description="prompts that must not change (locality)")] = ()

    @field_validator("prompt")
    @classmethod
    def _no_trailing_space(cls, prompt: str) -> str:
        if prompt.endswith(" "):
            raise ValueError("must not end with a space; the target is appended after one")
        return prompt

    @field_validator("subject")
    @classmethod
    def _in_prompt(cls, subject: str, info: ValidationInfo) -> str:
        if subject != subject.strip():
            raise ValueError("must not begin or end with white space; remove it")
        if "prompt" in info.data and subject not in info.data["prompt"]:
            raise ValueError("must occur in the prompt, verbatim and in the same case")
        return subject

    @field_validator("target_true")
    @classmethod
    def _differs(cls, target_true: str | None, info: ValidationInfo) -> str | None:
        if target_true is not None and target_true.strip() == str(info.data.get("target_new", "")).strip():
            raise ValueError("must differ from target_new; leave it out if it is not known")
        return target_true


class EditRequest(Fact):
    """`POST /edits`: one fact, and how to write it."""

    method: Annotated[
        str,
        StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$"),
        Field(description="see GET /methods"),
    ] = "rome"
    hparams: Annotated[
        PlainObject,
        Field(
            default_factory=dict,
            description="overrides of the method's hyperparameters for this model; see GET /methods",
        ),
    ]
    base_revision: Annotated[
        RevisionNumber | None, Field(description="refuse the edit (409) unless the head is this revision")
    ] = None


class EditStatus(StrEnum):
    """Where an edit stands. `reverted` means applied once, and not among the head's active edits now."""

    QUEUED = "queued"
    RUNNING = "running"
    APPLIED = "applied"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REVERTED = "reverted"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the edit by itself."""
        return self not in (EditStatus.QUEUED, EditStatus.RUNNING)


class Progress(Contract):
    """How far a running edit is: a phase, a step of steps, and what the optimiser sees."""

    phase: str
    step: int = 0
    steps: int = 0
    loss: float | None = None
    target_probability: float | None = None


class Generations(Contract):
    """Greedy continuations of the edited prompt by the base and by the edited weights."""

    prompt: str
    before: str
    after: str


class Outcome(Contract):
    """What a finished computation found out."""

    hparams: dict[str, Any]
    metrics: Metrics
    generations: Generations
    timings: Annotated[dict[str, float], Field(description="seconds by phase")]


class Edit(Contract):
    """An edit as the API shows it."""

    id: str
    status: EditStatus
    request: EditRequest
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    attempts: Annotated[int, Field(description="how often a worker has taken it up without handing it back")] = 0
    position: Annotated[int | None, Field(description="place in the queue, 0 is next or running")] = None
    progress: Progress | None = None
    revision: Annotated[int | None, Field(description="the revision that the edit made")] = None
    outcome: Outcome | None = None
    problem: Problem | None = None
    notice: Annotated[str | None, Field(description="something to know, such as that no worker is there")] = None


class EditPage(Contract):
    """`GET /edits`: newest first; `next` is the cursor of the following page."""

    edits: tuple[Edit, ...]
    next: int | None = None
    revision: Annotated[int | None, Field(description="the head; null before a worker has ever started")]
