"""What the routes that generate share: who asks, whether it may be asked, and how an answer is streamed."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse

from service.checks import check_generation
from service.contracts.lane import DecodeRequest
from service.dependencies import CanRead, Services, UntilAnswered, WhoAsks, WithClientGone
from service.errors import invalid
from service.middleware import REVISION
from service.settings import Settings


@dataclass(frozen=True)
class Caller:
    """Who asks, and what is needed to answer."""

    request: Request
    response: Response
    services: CanRead
    asker: WhoAsks
    gone: WithClientGone
    until_answered: UntilAnswered

    @property
    def name(self) -> str:
        """Among callers of different names the workers share out their rows evenly."""
        return self.asker.key or self.asker.address


WithCaller = Annotated[Caller, Depends()]
"""Who asks."""


async def admit(body: DecodeRequest, services: Services, min_revision: int | None = None) -> None:
    """Raise the problem that is known without a worker: none is ready, a revision is not there, a bound is passed.

    Fields are named as in `POST /generate`.
    """
    _check_size(body, services.settings)
    if min_revision is not None:
        await run_in_threadpool(lambda: services.board.look().ready_card())
        await services.lane.until_reached(min_revision)
    await run_in_threadpool(_check, body, services)


def event_stream(events: AsyncIterator[bytes], revision: int) -> EventSourceResponse:
    """Server-sent events that nothing on the way keeps back."""
    headers = {REVISION: str(revision), "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return EventSourceResponse(events, headers=headers)


def _check(body: DecodeRequest, services: Services) -> None:
    notices = services.board.look()
    card = notices.ready_card()
    for name in body.revisions:
        if notices.head is None or (isinstance(name, int) and name > notices.head):
            services.ledger.resolve(name)  # says which there are
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
