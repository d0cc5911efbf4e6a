"""Who may do what: a key's scope, a key as its operator sees it, and who asked for a change."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from service.contracts.base import Contract

MAKE_ONE = "palimpsest keys create NAME --scope edit"
"""How the operator makes a key."""


class Scope(StrEnum):
    """What a key allows; each includes those before it."""

    READ = "read"
    EDIT = "edit"
    ADMIN = "admin"

    def includes(self, other: "Scope") -> bool:
        """Whether this one allows whatever `other` allows."""
        order = list(Scope)
        return order.index(self) >= order.index(other)


class Asker(Contract):
    """Who asked for something."""

    by: Annotated[str | None, Field(description="name of the API key; null where none is needed")] = None
    request_id: Annotated[str | None, Field(description="X-Request-Id of the request")] = None


class ApiKey(Contract):
    """An API key without its secret, which nobody keeps."""

    name: str
    scope: Scope
    created_at: datetime
    last_used: Annotated[datetime | None, Field(description="to the hour; null before the first time")] = None
    revoked_at: datetime | None = None
