"""Examples: some of the facts that the project ships, to edit first."""

from typing import Annotated

from fastapi import APIRouter, Query

from service.contracts.examples import Examples, ExamplesQuery
from service.datasets.sources import SHIPPED, open_dataset
from service.dependencies import CanRead

router = APIRouter(tags=["edits"])


@router.get("/examples", summary="Facts to start from")
def list_examples(query: Annotated[ExamplesQuery, Query()], _: CanRead) -> Examples:
    """Facts with paraphrases and neighbours, evenly from the whole set: any `limit` has some of every kind.

    smollm2-135m knows them all; ask another model by `POST /generate` whether it says `target_true`.
    """
    facts = tuple(fact for record in open_dataset(SHIPPED).records for fact in record.facts)
    shown = min(query.limit, len(facts))
    return Examples(facts=tuple(facts[place * len(facts) // shown] for place in range(shown)), total=len(facts))
