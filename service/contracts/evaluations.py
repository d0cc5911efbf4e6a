"""An evaluation: facts scored at a revision, against the base."""

from typing import Annotated, Literal

from pydantic import Field, RootModel, ValidatorFunctionWrapHandler, WrapValidator

from service.contracts.base import Contract
from service.contracts.edits import MOST_FACTS, Fact
from service.contracts.jobs import ReadingJob, ReadingRequest
from service.contracts.scores import Drift, FactScores, Summaries

GivenFacts = Annotated[tuple[Fact, ...], Field(fail_fast=True, min_length=1, max_length=MOST_FACTS)]


def _given_or_active(value: object, _: ValidatorFunctionWrapHandler) -> tuple[Fact, ...] | Literal["active"]:
    """Chosen by hand, because the errors of a union name its members, which no client has written."""
    if value == "active":
        return "active"
    if isinstance(value, str):
        raise ValueError('must be a list of facts, or "active": those of the edits in force')  # noqa: TRY004 - pydantic takes no other
    return RootModel[GivenFacts].model_validate(value).root


class EvaluationRequest(ReadingRequest):
    """`POST /evaluations`: score facts, or all facts of the active edits, with the weights of a revision."""

    facts: Annotated[
        GivenFacts | Literal["active"],
        WrapValidator(_given_or_active),
        Field(description="facts, or `active`: those of the edits in force there"),
    ] = "active"


class ScoredFact(FactScores):
    """One fact on the base weights and on the revision's."""

    prompt: str
    subject: str
    target_new: str
    edit: Annotated[str | None, Field(description="the active edit that the fact comes from")] = None


class EvaluationResult(Contract):
    """What an evaluation found: `before` is the base, `after` the revision."""

    revision: Annotated[int, Field(description="the revision that was scored")]
    checksum: Annotated[str, Field(description="of that revision")]
    summary: Annotated[Summaries, Field(description="means over the facts")]
    facts: Annotated[tuple[ScoredFact, ...], Field(description="as they were given, or in the order of the ledger")]
    skipped: Annotated[
        int, Field(description="facts of active edits that a later active edit overwrites: same prompt, same subject")
    ] = 0
    drift: Annotated[Drift | None, Field(description="of that revision from the base; null if not measured")] = None
    timings: Annotated[dict[str, float], Field(description="seconds by phase")]


class Evaluation(ReadingJob[EvaluationRequest]):
    """An evaluation as the API shows it. Only `GET /evaluations/{id}` has all facts; elsewhere the first few stand."""

    noun = "evaluation"

    fact_count: Annotated[
        int | None, Field(description="how many facts are scored; null until those of the active edits are known")
    ] = None
    result: EvaluationResult | None = None


class EvaluationPage(Contract):
    """`GET /evaluations`: newest first; `next` is the cursor of the following page."""

    evaluations: tuple[Evaluation, ...]
    next: int | None = None
    revision: Annotated[int | None, Field(description="the head; null before a worker has ever started")]
