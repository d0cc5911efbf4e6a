"""Revisions: the history, and the way back."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from service.contracts.base import Contract, RevisionNumber
from service.contracts.revisions import Revision, RevisionPage, RollbackRequest
from service.dependencies import CanEdit, CanRead, Services, WithClientGone, tell_moved
from service.middleware import REVISION

router = APIRouter(tags=["revisions"])


class RevisionQuery(Contract):
    """Which revisions to list."""

    before: Annotated[RevisionNumber | None, Field(description="`next` of the page before")] = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20


@router.get("/revisions", summary="List revisions")
def list_revisions(query: Annotated[RevisionQuery, Query()], services: CanRead) -> RevisionPage:
    """The history, newest first, a page at a time."""
    return services.ledger.page(query.before, query.limit)


@router.get("/revisions/{revision}", summary="Look at a revision")
def get_revision(
    revision: Annotated[RevisionNumber, Path(description="3 or r3")], response: Response, services: CanRead
) -> Revision:
    """One revision: its parent, kind, active edits and checksums."""
    found = services.ledger.revision(revision)
    response.headers[REVISION] = str(found.revision)
    return found


@router.post("/rollback", status_code=201, summary="Roll back")
async def rollback(body: RollbackRequest, gone: WithClientGone, response: Response, services: CanEdit) -> Revision:
    """Make a new revision with the active edits of an old one; `{"to": 0}` is the pristine model."""
    await run_in_threadpool(_admit, body, services)
    return tell_moved(await services.lane.ask(body, gone), response)


def _admit(body: RollbackRequest, services: Services) -> None:
    services.board.look().ready_card()
    services.ledger.resolve(body.to)
