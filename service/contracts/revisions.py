"""A revision: an immutable state of the model, r0 being the base."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from service.contracts.base import Contract, RevisionNumber, Sent
from service.contracts.evaluations import EvaluationRequest
from service.contracts.scores import Drift


class RevisionKind(StrEnum):
    """What made a revision."""

    BASE = "base"
    EDIT = "edit"
    ROLLBACK = "rollback"
    REVERT = "revert"
    REAPPLY = "reapply"


class Entry(Contract):
    """One line of the ledger, as it is stored. Everything else about a revision follows from the entries before it."""

    revision: int
    parent: int | None
    kind: RevisionKind
    edit: Annotated[
        str | None,
        Field(description="the edit that was committed, taken out or put back (kinds edit, revert, reapply)"),
    ] = None
    blob: Annotated[str | None, Field(description="digest of the edit's delta (kind edit)")] = None
    to: Annotated[int | None, Field(description="the revision whose edits are active again (kind rollback)")] = None
    checksum: Annotated[str, Field(description="sha256 over the checksums of all the model's tensors")]
    tensors: Annotated[dict[str, str], Field(default_factory=dict, description="sha256 of each edited tensor")]
    request: Annotated[
        str | None, Field(description="of a rollback, revert or reapply the request that asked for it, made only once")
    ] = None
    drift: Annotated[Drift | None, Field(description="null where it was not measured")] = None
    by: Annotated[str | None, Field(description="name of the API key that asked for it; null without keys")] = None
    request_id: Annotated[str | None, Field(description="X-Request-Id of the request that asked for it")] = None
    created_at: datetime


class Revision(Entry):
    """A revision as the API shows it. Only `GET /revisions/{r}` has all active edits; a page has the last few."""

    active: Annotated[tuple[str, ...], Field(description="the edits in force, in the order they were committed")]
    active_count: Annotated[int, Field(description="how many edits are in force, shown or not")]


class RevisionPage(Contract):
    """`GET /revisions`: newest first; `next` is the cursor of the following page."""

    revisions: tuple[Revision, ...]
    next: int | None = None
    revision: Annotated[int | None, Field(description="the head; null before a worker has ever started")]


class RollbackRequest(Sent):
    """`POST /rollback`: make a new revision with the active edits of an old one."""

    to: Annotated[RevisionNumber, Field(examples=[0])]


class ActivationRequest(Contract):
    """Make a new revision with one edit taken out, or put back; all other active edits stay."""

    edit: str
    active: Annotated[bool, Field(description="whether the edit is to be in force")]


class Reverted(Contract):
    """`POST /edits/{id}/revert`: the revision without the edit, and what to know of it."""

    revision: Revision
    computed_with_it: Annotated[
        tuple[str, ...], Field(description="edits in force whose deltas were computed while the reverted one was")
    ]
    notice: str
    rescore: Annotated[
        EvaluationRequest | None,
        Field(description="the body of `POST /evaluations` that scores the edits still in force; null if none is"),
    ]
