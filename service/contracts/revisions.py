"""A revision: an immutable state of the model, r0 being the base."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from service.contracts.base import Contract, RevisionNumber


class RevisionKind(StrEnum):
    """What made a revision."""

    BASE = "base"
    EDIT = "edit"
    ROLLBACK = "rollback"


class Entry(Contract):
    """One line of the ledger, as it is stored. Everything else about a revision follows from the entries before it."""

    revision: int
    parent: int | None
    kind: RevisionKind
    edit: Annotated[str | None, Field(description="the edit that was committed (kind edit)")] = None
    blob: Annotated[str | None, Field(description="digest of the edit's delta (kind edit)")] = None
    to: Annotated[int | None, Field(description="the revision whose edits are active again (kind rollback)")] = None
    checksum: Annotated[str, Field(description="sha256 over the checksums of all the model's tensors")]
    tensors: Annotated[dict[str, str], Field(default_factory=dict, description="sha256 of each edited tensor")]
    created_at: datetime


class Revision(Entry):
    """A revision as the API shows it."""

    active: Annotated[tuple[str, ...], Field(description="the edits in force, in the order they were committed")]


class RevisionPage(Contract):
    """`GET /revisions`: newest first; `next` is the cursor of the following page."""

    revisions: tuple[Revision, ...]
    next: int | None = None
    revision: Annotated[int | None, Field(description="the head; null before a worker has ever started")]


class RollbackRequest(Contract):
    """`POST /rollback`: make a new revision with the active edits of an old one."""

    to: Annotated[RevisionNumber, Field(examples=[0])]
