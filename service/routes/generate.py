"""Generation: before and after, side by side."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from service.checks import check_generation
from service.contracts.generate import GenerateAnswer, GenerateRequest
from service.dependencies import Services, WithServices
from service.errors import ProblemError
from service.middleware import REVISION

router = APIRouter(tags=["generation"])


@router.get("/generate", summary="Compare two revisions")
async def generate(
    query: Annotated[GenerateRequest, Query()], request: Request, response: Response, services: WithServices
) -> GenerateAnswer:
    """Continue every `prompt` (repeat it for more) with the weights of `before` and of `after`."""
    return await _generate(query, request, response, services)


@router.post("/generate", summary="Compare two revisions (JSON)")
async def generate_json(
    body: GenerateRequest, request: Request, response: Response, services: WithServices
) -> GenerateAnswer:
    """The same as `GET /generate`, for prompts that do not fit into a URL."""
    return await _generate(body, request, response, services)


async def _generate(
    wanted: GenerateRequest, request: Request, response: Response, services: Services
) -> GenerateAnswer:
    if wanted.min_revision is not None:
        await run_in_threadpool(lambda: services.board.look().ready_card())
        await services.lane.until_reached(wanted.min_revision)
    await run_in_threadpool(_admit, wanted, services)
    answer = await services.lane.ask(wanted, request.is_disconnected)
    if answer.generated is None:
        raise ProblemError(502, "bad-answer", "The worker answered something else than texts. Is it up to date?")
    response.headers[REVISION] = str(answer.generated.revision)
    return answer.generated


def _admit(wanted: GenerateRequest, services: Services) -> None:
    notices = services.board.look()
    card = notices.ready_card()
    for name in (wanted.before, wanted.after):
        services.ledger.resolve(name)
    check_generation(wanted, card, services.board.counter(card))
