"""An evaluation: facts scored at a revision, against the base."""

from typing import Annotated, Literal

from pydantic import Field

from service.contracts.base import Contract, RevisionName
from service.contracts.edits import MOST_FACTS, Fact


class EvaluationRequest(Contract):
    """`POST /evaluations`: score facts, or all facts of the active edits, with the weights of a revision."""

    revision: RevisionName = "head"
    facts: Annotated[
        tuple[Fact, ...] | Literal["active"],
        Field(min_length=1, max_length=MOST_FACTS, description="facts, or `active`: those of the edits in force there"),
    ] = "active"
