"""Facts to start from."""

from typing import Annotated

from pydantic import Field

from service.contracts.base import Contract
from service.contracts.edits import Fact

MOST_EXAMPLES = 200
"""In one answer."""


class ExamplesQuery(Contract):
    """How many examples to tell."""

    limit: Annotated[int, Field(ge=1, le=MOST_EXAMPLES)] = 12


class Examples(Contract):
    """`GET /examples`: facts that can be sent to `POST /edits` as they are."""

    facts: tuple[Fact, ...]
    total: Annotated[int, Field(description="how many there are")]
