"""Evaluations: ask for one, watch it, cancel it."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from redis.asyncio.client import PubSub

from service.board import Notices
from service.checks import check_evaluation, nothing_active
from service.contracts.evaluations import Evaluation, EvaluationPage, EvaluationRequest
from service.contracts.jobs import JobStatus
from service.dependencies import CanEdit, CanRead, EvaluationId, IdempotencyKey, Services, WithServices
from service.routes.watching import PageQuery, annotated, announced, of_revision, watch

router = APIRouter(prefix="/evaluations", tags=["evaluations"])

_EIFFEL = {"prompt": "The Eiffel Tower is located in the city of", "subject": "The Eiffel Tower", "target_new": "Rome"}

Asked = Annotated[
    EvaluationRequest,
    Body(
        openapi_examples={
            "active": {"summary": "The edits in force at the head", "value": {"revision": "head", "facts": "active"}},
            "facts": {"summary": "Facts at a revision", "value": {"revision": "r3", "facts": [_EIFFEL]}},
        }
    ),
]
"""The body of `POST /evaluations`."""


class EvaluationQuery(PageQuery):
    """Which evaluations to list."""

    status: JobStatus | None = None


@router.post("", status_code=202, summary="Score facts at a revision")
def create_evaluation(
    request: Asked, response: Response, services: CanEdit, idempotency_key: IdempotencyKey = None
) -> Evaluation:
    """Queue an evaluation: given facts, or those of all edits in force, scored at a revision and at the base.

    It runs in its turn among the edits. The answer tells its id and place; watch it at `Location`.
    """
    evaluations = services.evaluations
    evaluation_id = evaluations.known(request, idempotency_key) if idempotency_key else None
    notices = services.board.look()
    if evaluation_id is None:
        _admit(request, notices, services)
        evaluation_id, _ = evaluations.create(request, idempotency_key)
    evaluation = evaluations.glance(evaluation_id)
    if evaluation.status is JobStatus.QUEUED:
        services.ring(evaluation_id, "evaluation")
    response.headers["Location"] = f"/evaluations/{evaluation_id}"
    return of_revision(notices.annotate(evaluation), response)


@router.get("", summary="List evaluations")
def list_evaluations(query: Annotated[EvaluationQuery, Query()], services: CanRead) -> EvaluationPage:
    """All evaluations, newest first, a page at a time."""
    notices = services.board.look()
    found, cursor = services.evaluations.newest(query.before, query.limit, query.status)
    return EvaluationPage(evaluations=tuple(map(notices.annotate, found)), next=cursor, revision=notices.head)


@router.get("/{evaluation_id}", summary="Look at an evaluation")
def get_evaluation(evaluation_id: EvaluationId, response: Response, services: CanRead) -> Evaluation:
    """One evaluation: its status, progress and scores, with all its facts."""
    return of_revision(annotated(services.evaluations.get(evaluation_id), services), response)


def _glance(evaluation_id: EvaluationId, services: WithServices) -> Evaluation:
    return annotated(services.evaluations.glance(evaluation_id), services)


Existing = Annotated[Evaluation, Depends(_glance)]


@router.delete("/{evaluation_id}", summary="Cancel an evaluation", responses={202: {"model": Evaluation}})
def cancel_evaluation(evaluation_id: EvaluationId, response: Response, services: CanEdit) -> Evaluation:
    """Cancel an evaluation: at once (200) if it was queued; a running one is asked to stop (202)."""
    services.evaluations.cancel(evaluation_id)
    evaluation = _glance(evaluation_id, services)
    response.status_code = 200 if evaluation.status.ended else 202
    return of_revision(evaluation, response)


async def _changes(evaluation: Existing, services: WithServices) -> AsyncIterator[PubSub]:
    async with announced("evaluation", evaluation.id, services) as channel:
        yield channel


@router.get("/{evaluation_id}/events", response_class=EventSourceResponse, summary="Watch an evaluation")
async def watch_evaluation(
    evaluation: Existing, changes: Annotated[Any, Depends(_changes)], services: CanRead
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: the evaluation as it is, then again whenever it changed, until it has ended.

    The event's name is the evaluation's status, its data is the evaluation.
    """
    async for event in watch(evaluation, services.evaluations.glance_again, changes, services):
        yield event


def _admit(request: EvaluationRequest, notices: Notices, services: Services) -> None:
    if isinstance(request.revision, int):
        services.ledger.revision(request.revision)
    if request.facts == "active":
        _require_active(request.revision, notices.head, services)
    elif notices.worker is not None and notices.card is not None:
        check_evaluation(request, notices.card, services.board.counter(notices.card))


def _require_active(name: str | int, head: int | None, services: Services) -> None:
    """Refuse where there is nothing to score, unless an edit that waits may yet move the head."""
    number = {"base": 0, "head": head}[name] if isinstance(name, str) else name
    if head is not None and number is not None and services.ledger.active(number):
        return
    if name != "head" or not services.edits.pending():
        raise nothing_active("the head" if number is None else f"r{number}")
