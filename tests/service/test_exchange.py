"""How long one request waits, and for whom."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from service import exchange
from service.contracts.generate import Sampling
from service.contracts.lane import DecodeRequest, LaneAnswer, LaneRequest, Piece, Started
from service.contracts.revisions import Revision, RevisionKind
from service.errors import ProblemError
from service.exchange import Exchange
from tests.service.asking import SECONDS
from tests.service.stand_in import entry

STARTED = LaneAnswer(id="x", started=Started(revisions=(0,), prompts=("a",), prompt_tokens=(1,)))
PIECE = LaneAnswer(id="x", pieces=(Piece(row=0, text="b", tokens=("b",), token_ids=(1,), logprobs=(-1.0,)),))
LAST = LaneAnswer.model_validate(
    {"id": "x", "decoded": {"started": STARTED.started, "continuations": (), "seconds": 0}}
)

Look = Callable[["Waiting"], Coroutine[Any, Any, None]]


class Waiting:
    """A request, and the mailbox that it waits at."""

    def __init__(self, look: Look, stopping: threading.Event | None = None) -> None:
        body = DecodeRequest(prompts=("a",), revisions=("base",), sampling=Sampling(seed=1), stream=True)
        request = LaneRequest(id="x", body=body, deadline=time.time() + SECONDS, answers="answers")
        self.mailbox: asyncio.Queue[LaneAnswer | None] = asyncio.Queue()
        self.looked = 0
        self.look = look
        self.exchange = Exchange(request, SECONDS, self.mailbox, self._look, stopping or threading.Event())

    async def _look(self) -> None:
        self.looked += 1
        await self.look(self)

    async def pieces(self, *answers: LaneAnswer) -> list[tuple[Piece, ...]]:
        """Everything that the stream gives when these have come."""
        for answer in answers:
            self.mailbox.put_nowait(answer)
        await self.exchange.begin()
        return [pieces async for pieces in self.exchange]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "LOOK_UP_SECONDS", 0.01)


async def sees_a_worker(_: Waiting) -> None:
    pass


async def sees_no_redis(_: Waiting) -> None:
    raise RedisConnectionError


def test_a_stream_from_its_begin_to_its_end() -> None:
    async def main() -> None:
        waiting = Waiting(sees_a_worker)
        assert await waiting.pieces(STARTED, PIECE, PIECE, LAST) == [PIECE.pieces, PIECE.pieces]
        assert (waiting.exchange.started, waiting.exchange.decoded) == (STARTED.started, LAST.decoded)
        assert waiting.exchange.ended
        assert waiting.looked == 0

    asyncio.run(main())


def test_an_answer_that_is_whole_at_once_is_a_stream_too() -> None:
    async def main() -> None:
        waiting = Waiting(sees_a_worker)
        assert await waiting.pieces(LAST) == []
        assert (waiting.exchange.started, waiting.exchange.decoded) == (STARTED.started, LAST.decoded)

    asyncio.run(main())


def test_redis_may_be_away_for_a_while() -> None:
    async def comes_back(waiting: Waiting) -> None:
        if waiting.looked == 3:
            waiting.mailbox.put_nowait(LAST)
        raise RedisConnectionError

    assert asyncio.run(Waiting(comes_back).pieces(STARTED)) == []


def test_redis_may_not_be_away_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "PATIENCE_SECONDS", 0.05)
    waiting = Waiting(sees_no_redis)
    with pytest.raises(RedisConnectionError):
        asyncio.run(waiting.pieces(STARTED))
    assert waiting.looked > 1


def test_silence_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "QUIET_SECONDS", 0.03)

    async def main() -> None:
        waiting = Waiting(sees_a_worker)
        waiting.mailbox.put_nowait(STARTED)
        await waiting.exchange.begin()
        told = aiter(waiting.exchange)
        assert [await anext(told), await anext(told)] == [(), ()]
        waiting.mailbox.put_nowait(PIECE)
        waiting.mailbox.put_nowait(LAST)
        assert [pieces async for pieces in told] == [PIECE.pieces]

    asyncio.run(main())


@pytest.mark.parametrize("answers", [[], [STARTED], [STARTED, PIECE]])
def test_a_service_that_stops_lets_nobody_wait(answers: list[LaneAnswer]) -> None:
    stopping = threading.Event()

    async def stops(_: Waiting) -> None:
        stopping.set()

    with pytest.raises(ProblemError) as raised:
        asyncio.run(Waiting(stops, stopping).pieces(*answers))
    assert raised.value.problem.type.endswith(":stopping")


REVISION = LaneAnswer(id="x", revision=Revision(**entry(0, RevisionKind.BASE).model_dump(), active=(), active_count=0))


@pytest.mark.parametrize("answers", [[PIECE], [REVISION], [STARTED, REVISION], [STARTED, PIECE, REVISION]])
def test_a_worker_that_answers_something_else(answers: list[LaneAnswer]) -> None:
    with pytest.raises(ProblemError, match="something else than texts"):
        asyncio.run(Waiting(sees_a_worker).pieces(*answers))
