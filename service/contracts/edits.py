"""An edit: the request to rewrite one fact or many, and its outcome."""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from service.contracts.base import Contract, PlainObject, RevisionNumber, Sent, Text
from service.contracts.jobs import Job, has_ended
from service.contracts.questions import Groups, Prompts
from service.contracts.scores import Drift, FactScores, Metrics, Summaries
from service.contracts.subject import SubjectPrompt

MOST_FACTS = 10_000
"""Facts in one batch: as many as MEMIT was shown to write at once (arXiv:2210.07229, section 5.2)."""


class Fact(SubjectPrompt):
    """What a prompt should say of a subject: prompt -> target_new (it may say target_true now)."""

    target_new: Annotated[Text, Field(examples=["Rome"])]
    target_true: Annotated[Text | None, Field(examples=["Paris"])] = None
    paraphrases: Annotated[Prompts, Field(description="prompts that should follow the edit (generality)")] = ()
    neighborhood: Annotated[Prompts, Field(description="prompts that must not change (locality)")] = ()
    locality: Annotated[Groups, Field(description="questions by group whose answers must not change")] = Field(
        default_factory=dict
    )
    portability: Annotated[Groups, Field(description="questions by group that follow from the edit")] = Field(
        default_factory=dict
    )

    @field_validator("target_true")
    @classmethod
    def _differs(cls, target_true: str | None, info: ValidationInfo) -> str | None:
        if target_true is not None and target_true.strip() == str(info.data.get("target_new", "")).strip():
            raise ValueError("must differ from target_new; leave it out if it is not known")
        return target_true


def _share(value: object) -> object:
    if value is True:
        return 1.0
    if value is False:
        raise ValueError("must be true or a share from 0 to 1; leave it out to require nothing")
    return value


Share = Annotated[float, BeforeValidator(_share), Field(ge=0, le=1)]
"""A share from 0 to 1; true is all of it."""


class Requirements(Sent):
    """What an edit must reach on the edited weights, or it is rejected before any reader sees it."""

    efficacy: Annotated[Share | None, Field(description="least EA: share of prompts that say target_new")] = None
    generality: Annotated[Share | None, Field(description="least PA: the same of the paraphrases")] = None
    locality: Annotated[
        Share | None, Field(description="least neighborhood_acc: share of the neighbours' answers that stay")
    ] = None
    max_perplexity_ratio: Annotated[
        float | None,
        Field(gt=0, le=1e6, description="most that the neutral sentences' perplexity may be, over the base's"),
    ] = None


class EditOptions(Sent):
    """How facts are written, be it one or many."""

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
    require: Annotated[
        Requirements | None, Field(description="an edit that misses any of it is rejected, and never served")
    ] = None
    dry_run: Annotated[bool, Field(description="compute and measure, and commit nothing")] = False


class EditRequest(EditOptions, Fact):
    """`POST /edits`: one fact, and how to write it."""

    @model_validator(mode="after")
    def _can_be_checked(self) -> Self:
        _check_requirements(self.require, self.facts)
        return self

    @property
    def facts(self) -> tuple[Fact, ...]:
        """The one fact, so that an edit of one and an edit of many are read alike."""
        return (self,)


class BatchRequest(EditOptions):
    """`POST /edits`: many facts for one revision, and how to write them."""

    facts: Annotated[tuple[Fact, ...], Field(fail_fast=True, min_length=1, max_length=MOST_FACTS)]

    @field_validator("facts")
    @classmethod
    def _agree(cls, facts: tuple[Fact, ...]) -> tuple[Fact, ...]:
        """Each contradiction is an error of the later fact's own field."""
        errors = [
            InitErrorDetails(
                type=PydanticCustomError(
                    "value_error",
                    "contradicts facts[{earlier}].target_new after the same prompt; keep one of the two",
                    {"earlier": earlier},
                ),
                loc=(later, "target_new"),
                input=facts[later].target_new,
            )
            for earlier, later in contradictions(facts)
        ]
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return facts

    @model_validator(mode="after")
    def _can_be_checked(self) -> Self:
        _check_requirements(self.require, self.facts)
        return self


def _check_requirements(require: Requirements | None, facts: tuple[Fact, ...]) -> None:
    """A requirement that nothing in the request can show is an error of its own field."""
    if require is None:
        return
    wanted = (
        ("generality", require.generality, "paraphrases", any(fact.paraphrases for fact in facts)),
        ("locality", require.locality, "neighborhood", any(fact.neighborhood for fact in facts)),
    )
    errors = [
        InitErrorDetails(
            type=PydanticCustomError(
                "value_error", "needs prompts to be checked on; give {prompts}", {"prompts": prompts}
            ),
            loc=("require", name),
            input=value,
        )
        for name, value, prompts, there in wanted
        if value is not None and not there
    ]
    if errors:
        raise ValidationError.from_exception_data("EditRequest", errors)


def contradictions(facts: Iterable[Fact]) -> Iterator[tuple[int, int]]:
    """Pairs of indices, earlier and later: facts that want different targets after one prompt about one subject."""
    first: dict[tuple[str, str], tuple[int, str]] = {}
    for index, fact in enumerate(facts):
        target = fact.target_new.strip()
        earlier, wanted = first.setdefault((fact.prompt, fact.subject), (index, target))
        if wanted != target:
            yield earlier, index


def _one_or_many(value: object, _: ValidatorFunctionWrapHandler) -> EditRequest | BatchRequest:
    """Chosen by hand, because the errors of a union name its members, which no client has written."""
    many = isinstance(value, BatchRequest) or (isinstance(value, dict) and "facts" in value)
    return BatchRequest.model_validate(value) if many else EditRequest.model_validate(value)


AnyEditRequest = Annotated[EditRequest | BatchRequest, WrapValidator(_one_or_many)]
"""One fact, or a batch where the body has `facts`."""


class EditStatus(StrEnum):
    """Where an edit stands.

    `reverted` means applied once, and not among the head's active edits now; `measured` is the end of a dry run.
    """

    QUEUED = "queued"
    RUNNING = "running"
    APPLIED = "applied"
    REJECTED = "rejected"
    MEASURED = "measured"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REVERTED = "reverted"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the edit by itself."""
        return has_ended(self)


class Generations(Contract):
    """Greedy continuations of the edited prompt by the base and by the edited weights."""

    prompt: str
    before: str
    after: str


class Outcome(Contract):
    """What a finished computation found out."""

    hparams: dict[str, Any]
    summary: Annotated[Summaries, Field(description="means over the facts")]
    facts: Annotated[tuple[FactScores, ...], Field(description="one a fact, in order")]
    metrics: Annotated[
        Metrics | None, Field(description="prompt by prompt, where the edit has one fact; otherwise null")
    ] = None
    generations: Annotated[tuple[Generations, ...], Field(description="of the first facts, four at most")]
    drift: Annotated[Drift | None, Field(description="of the edited weights from the base's")] = None
    timings: Annotated[dict[str, float], Field(description="seconds by phase")]
    warnings: Annotated[tuple[str, ...], Field(description="what may make the edit worse than it looks")] = ()


class Edit(Job[EditStatus]):
    """An edit as the API shows it. Only `GET /edits/{id}` has all facts of a batch; elsewhere the first few stand."""

    noun = "edit"

    request: AnyEditRequest
    fact_count: Annotated[int, Field(description="how many facts the edit has, shown or not")]
    revision: Annotated[int | None, Field(description="the revision that the edit made")] = None
    outcome: Outcome | None = None


class EditPage(Contract):
    """`GET /edits`: newest first; `next` is the cursor of the following page."""

    edits: tuple[Edit, ...]
    next: int | None = None
    revision: Annotated[int | None, Field(description="the head; null before a worker has ever started")]
