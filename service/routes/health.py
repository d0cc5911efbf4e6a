"""Health: does the process live, can it do its work."""

import asyncio

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool

from service.board import Notices
from service.contracts.health import Health, Ready, WorkerLag
from service.contracts.model import WorkerState, WorkerStatus
from service.dependencies import WithServices
from service.errors import no_worker

router = APIRouter(tags=["health"])

LOOKS, LOOK_SECONDS = 20, 0.05
"""How often, and how far apart, a worker at the head is looked for: who has just moved it says so a moment later."""


@router.get("/health", summary="Does the process live?")
async def health(request: Request, services: WithServices) -> Health:
    """200 as long as the process answers, whatever else is down."""
    return Health(model=services.keys.model, version=request.app.version)


@router.get("/ready", summary="Can it do its work?")
async def ready(services: WithServices) -> Ready:
    """200 if a worker serves the head, with every worker's lag; otherwise a 503 problem that says why not."""
    for _ in range(LOOKS):
        notices = await run_in_threadpool(services.board.look)
        notices.ready_card()
        head = notices.head
        serving = next((worker for worker in notices.ready if worker.revision == head), None)
        if serving is not None and head is not None:
            return Ready(model=notices.model, revision=head, worker=serving, workers=_lags(notices, head))
        await asyncio.sleep(LOOK_SECONDS)
    served = "; ".join(map(_served, notices.workers))
    raise no_worker(notices.model, f"{served}, and the head is {_name(head)}. Try again soon.")


def _lags(notices: Notices, head: int) -> tuple[WorkerLag, ...]:
    return tuple(
        WorkerLag(**worker.model_dump(), lag=None if worker.revision is None else max(0, head - worker.revision))
        for worker in notices.workers
    )


def _served(worker: WorkerStatus) -> str:
    state = "" if worker.state is WorkerState.READY else f" ({worker.state}: {worker.detail})"
    return f"it serves {_name(worker.revision)}{state}"


def _name(revision: int | None) -> str:
    return "no revision" if revision is None else f"r{revision}"
