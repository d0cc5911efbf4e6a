"""A record of a data set: one case of facts to edit, and everything that its scores are of."""

from typing import Annotated

from pydantic import Field

from service.contracts.base import Sent, Text
from service.contracts.edits import Fact
from service.contracts.questions import Prompts, Questions

MOST_REFERENCES = 10_000
"""Texts about one target; CounterFact's authors give up to some hundreds."""


class Record(Sent):
    """What every data set is read as. Nearly always one fact; MQuAKE's cases have several, edited together."""

    case_id: int
    facts: Annotated[tuple[Fact, ...], Field(fail_fast=True, min_length=1, max_length=100)]
    multi_hop: Annotated[
        Questions, Field(description="ask for what follows from all the facts; one answered right is enough")
    ] = ()
    generation_prompts: Annotated[Prompts, Field(description="continued freely, for fluency and consistency")] = ()
    reference_texts: Annotated[
        tuple[Text, ...],
        Field(
            fail_fast=True, max_length=MOST_REFERENCES, description="true texts about things of which target_new holds"
        ),
    ] = ()
