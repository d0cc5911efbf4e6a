"""What the routes that generate share: what is asked of a worker is checked before it is sent."""

from fastapi.concurrency import run_in_threadpool

from service.checks import check_generation
from service.contracts.lane import DecodeRequest
from service.dependencies import Services
from service.errors import invalid
from service.settings import Settings


async def admit(body: DecodeRequest, services: Services, min_revision: int | None = None) -> None:
    """Raise the problem that is known without a worker: none is ready, a revision is not there, a bound is passed.

    Fields are named as in `POST /generate`.
    """
    _check_size(body, services.settings)
    if min_revision is not None:
        await run_in_threadpool(lambda: services.board.look().ready_card())
        await services.lane.until_reached(min_revision)
    await run_in_threadpool(_check, body, services)


def _check(body: DecodeRequest, services: Services) -> None:
    card = services.board.look().ready_card()
    for name in body.revisions:
        services.ledger.resolve(name)
    check_generation(body, card, services.board.counter(card))


def _check_size(body: DecodeRequest, settings: Settings) -> None:
    prompts, sides, n = len(body.prompts) or 1, len(body.revisions), body.sampling.n
    rows = prompts * sides * n
    if rows > settings.max_rows:
        detail = (
            f"{prompts} x {sides} x {n} are {rows} continuations (prompts x sides x n), at most {settings.max_rows}"
        )
        raise invalid("n" if n > 1 else "prompt", f"{detail} are taken; ask for fewer", "too-many")
    tokens = rows * body.sampling.max_new_tokens
    if tokens > settings.max_request_tokens:
        raise invalid(
            "max_new_tokens",
            f"{rows} continuations of {body.sampling.max_new_tokens} are {tokens} tokens, at most "
            f"{settings.max_request_tokens} are taken; ask for fewer",
            "too-many",
        )
