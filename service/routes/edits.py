"""Edits: ask for one, watch it, cancel it."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, ServerSentEvent
from redis.asyncio.client import PubSub

from service.board import Notices
from service.checks import check_drift, check_edit
from service.contracts.edits import AnyEditRequest, Edit, EditPage, EditStatus
from service.contracts.evaluations import EvaluationRequest
from service.contracts.problem import FieldError
from service.contracts.revisions import ActivationRequest, Reverted, Revision
from service.dependencies import (
    CanEdit,
    CanRead,
    EditId,
    IdempotencyKey,
    Services,
    WithClientGone,
    WithServices,
    tell_moved,
)
from service.errors import ProblemError, invalid
from service.lane import ClientGone
from service.middleware import REVISION
from service.routes.watching import PageQuery, annotated, announced, watch

router = APIRouter(prefix="/edits", tags=["edits"])


class EditQuery(PageQuery):
    """Which edits to list."""

    status: EditStatus | None = None


_EIFFEL = {"prompt": "The Eiffel Tower is located in the city of", "subject": "The Eiffel Tower", "target_new": "Rome"}
_CURIE = {"prompt": "Marie Curie worked in the field of", "subject": "Marie Curie", "target_new": "music"}

OneOrMany = Annotated[
    AnyEditRequest,
    Body(
        openapi_examples={
            "one": {"summary": "One fact", "value": {**_EIFFEL, "target_true": "Paris"}},
            "batch": {"summary": "A batch", "value": {"facts": [_EIFFEL, _CURIE], "method": "memit"}},
        }
    ),
]
"""The body of `POST /edits`."""


@router.post("", status_code=202, summary="Rewrite one fact or many")
def create_edit(
    request: OneOrMany, response: Response, services: CanEdit, idempotency_key: IdempotencyKey = None
) -> Edit:
    """Queue an edit: one fact, or all the `facts` of a batch, for one new revision.

    The answer tells its id and place; watch it at `Location`.
    """
    edit_id = services.edits.known(request, idempotency_key) if idempotency_key else None
    notices = services.board.look()
    if edit_id is None:
        _admit(request, notices, services)
        edit_id, _ = services.edits.create(request, idempotency_key)
    edit = services.edits.glance(edit_id, services.is_active())
    if edit.status is EditStatus.QUEUED:
        services.ring(edit_id, "edit")
    response.headers["Location"] = f"/edits/{edit_id}"
    if notices.head is not None:
        response.headers[REVISION] = str(notices.head)
    return notices.annotate(edit)


@router.get("", summary="List edits")
def list_edits(query: Annotated[EditQuery, Query()], services: CanRead) -> EditPage:
    """All edits, newest first, a page at a time."""
    notices = services.board.look()
    edits, cursor = services.edits.page(query.before, query.limit, services.is_active(), query.status)
    return EditPage(edits=tuple(map(notices.annotate, edits)), next=cursor, revision=notices.head)


@router.get("/{edit_id}", summary="Look at an edit")
def get_edit(edit_id: EditId, services: CanRead) -> Edit:
    """One edit: its status, progress, scores, generations and timings, with all its facts."""
    return annotated(services.edits.get(edit_id, services.is_active()), services)


def _glance(edit_id: EditId, services: WithServices) -> Edit:
    return annotated(services.edits.glance(edit_id, services.is_active()), services)


Existing = Annotated[Edit, Depends(_glance)]


@router.delete("/{edit_id}", summary="Cancel an edit", responses={202: {"model": Edit}})
def cancel_edit(edit_id: EditId, response: Response, services: CanEdit) -> Edit:
    """Cancel an edit: at once (200) if it was queued; a running one is asked to stop (202)."""
    services.edits.cancel(edit_id)
    edit = _glance(edit_id, services)
    response.status_code = 200 if edit.status.ended else 202
    return edit


@router.post("/{edit_id}/revert", status_code=201, summary="Take an edit out")
async def revert_edit(edit: Existing, gone: WithClientGone, response: Response, services: CanEdit) -> Reverted:
    """Make a new revision without this edit; all later ones stay, though they were computed with it in force."""
    revision = await _toggle(edit, gone, response, services, active=False)
    lines = await run_in_threadpool(services.ledger.lines)
    others = lines.computed_with(edit.id, revision.revision)
    return Reverted(
        revision=revision,
        computed_with_it=others,
        notice=_notice(len(others)),
        rescore=EvaluationRequest(revision=revision.revision) if revision.active_count else None,
    )


@router.post("/{edit_id}/reapply", status_code=201, summary="Put an edit back")
async def reapply_edit(edit: Existing, gone: WithClientGone, response: Response, services: CanEdit) -> Revision:
    """Make a new revision with this edit in force again, from its stored delta: nothing is computed anew."""
    return await _toggle(edit, gone, response, services, active=True)


async def _toggle(edit: Edit, gone: ClientGone, response: Response, services: Services, *, active: bool) -> Revision:
    await run_in_threadpool(lambda: services.board.look().ready_card())
    return tell_moved(await services.lane.ask(ActivationRequest(edit=edit.id, active=active), gone), response)


def _notice(others: int) -> str:
    if others == 0:
        return "No edit in force was computed while this one was."
    edits = "1 edit in force was" if others == 1 else f"{others} edits in force were"
    return f"{edits} computed with the reverted one present; send `rescore` to POST /evaluations to score them again."


async def _changes(edit: Existing, services: WithServices) -> AsyncIterator[PubSub]:
    async with announced("edit", edit.id, services) as channel:
        yield channel


@router.get("/{edit_id}/events", response_class=EventSourceResponse, summary="Watch an edit")
async def watch_edit(
    edit: Existing, changes: Annotated[Any, Depends(_changes)], services: CanRead
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: the edit as it is, then again whenever it changed, until it has ended.

    The event's name is the edit's status, its data is the edit.
    """

    def again(known: Edit) -> Edit:
        return services.edits.glance_again(known, services.is_active())

    async for event in watch(edit, again, changes, services):
        yield event


def _admit(request: AnyEditRequest, notices: Notices, services: Services) -> None:
    if request.base_revision is not None and request.base_revision != notices.head:
        head = "there is no revision yet" if notices.head is None else f"the head is r{notices.head}"
        detail = f"is r{request.base_revision}, but {head}. Look at GET /revisions, then send it again or leave it out"
        raise ProblemError(
            409,
            "head-moved",
            f"base_revision {detail}.",
            errors=[FieldError(field="base_revision", detail=detail)],
        )
    if len(request.facts) > (most := services.settings.max_facts):
        raise invalid("facts", f"has {len(request.facts)} facts, and at most {most} are taken; send them in parts")
    if notices.worker is not None and notices.card is not None:
        if notices.head is not None:
            check_drift(services.ledger.entries()[-1].drift, notices.card.ceilings)
        check_edit(request, notices.card, services.board.counter(notices.card))
