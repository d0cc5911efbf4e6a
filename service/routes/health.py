"""Health: does the process live, can it do its work."""

from fastapi import APIRouter

from service.contracts.health import Health, Ready
from service.dependencies import WithServices
from service.errors import no_worker

router = APIRouter(tags=["health"])


@router.get("/health", summary="Does the process live?")
async def health(services: WithServices) -> Health:
    """200 as long as the process answers, whatever else is down."""
    return Health(model=services.keys.model)


@router.get("/ready", summary="Can it do its work?")
def ready(services: WithServices) -> Ready:
    """200 if a worker serves the head; otherwise a 503 problem that says why not."""
    notices = services.board.look()
    notices.ready_card()
    worker, head = notices.worker, notices.head
    served = None if worker is None else worker.revision
    if worker is None or head is None or served != head:
        raise no_worker(notices.model, f"it serves {_name(served)}, and the head is {_name(head)}. Try again soon.")
    return Ready(model=notices.model, revision=head, worker=worker)


def _name(revision: int | None) -> str:
    return "no revision" if revision is None else f"r{revision}"
