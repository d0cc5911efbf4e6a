"""Objects in the storage: read once, and deleted whoever leaves, wherever they lie."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import fsspec
import pytest

from service.errors import ProblemError
from service.stored import Stored

NAME = "0123456789abcdef"


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.005)


def put(blobs: str, content: bytes = b"first, second") -> Callable[[], bool]:
    """Write an object; returns what says whether it is there."""
    filesystem, place = fsspec.url_to_fs(f"{blobs}/exports/{NAME}")
    filesystem.makedirs(place.rpartition("/")[0], exist_ok=True)
    filesystem.pipe_file(place, content)
    return lambda: bool(filesystem.exists(place))


@pytest.fixture(params=["folder", "file URL", "elsewhere"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {"folder": str(tmp_path), "file URL": tmp_path.as_uri(), "elsewhere": "memory://bucket/prefix"}[
        request.param
    ]


def test_an_object_is_read_in_parts_and_deleted(blobs: str) -> None:
    there = put(blobs)

    async def read() -> list[bytes]:
        async with Stored(blobs, 1).open(NAME) as opened:
            parts = [b"".join([piece async for piece in opened.read(count)]) for count in (5, 2, 100, 1)]
        await until(lambda: not there())
        return parts

    assert asyncio.run(read()) == [b"first", b", ", b"second", b""]


def test_an_object_that_is_not_there(blobs: str) -> None:
    async def read() -> None:
        async with Stored(blobs, 1).open(NAME):
            pass

    with pytest.raises(ProblemError, match="must have the same"):
        asyncio.run(read())


def test_who_is_cancelled_while_it_is_opened_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = put(str(tmp_path))
    entered, release = threading.Event(), threading.Event()
    usual = Stored._open

    def slow(self: Stored, name: str) -> Any:
        entered.set()
        release.wait(60)
        return usual(self, name)

    monkeypatch.setattr(Stored, "_open", slow)

    async def cancelled() -> None:
        async def read() -> None:
            async with Stored(str(tmp_path), 1).open(NAME):
                raise AssertionError("nobody is here any more")

        task = asyncio.create_task(read())
        await until(entered.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert there()
        release.set()
        await until(lambda: not there())

    asyncio.run(cancelled())


def test_whoever_fails_leaves_nothing(blobs: str) -> None:
    there = put(blobs)

    async def fail() -> None:
        stored = Stored(blobs, 1)
        with pytest.raises(ZeroDivisionError):
            async with stored.open(NAME):
                raise ZeroDivisionError
        await until(lambda: not there())

    asyncio.run(fail())


def test_so_many_archives_and_no_more() -> None:
    stored = Stored("nowhere", 2)
    with stored.archive(None):
        with stored.archive(None), pytest.raises(ProblemError) as full, stored.archive("key ada"):
            pass
        assert full.value.problem.status == 503
        with stored.archive(None):
            pass


@pytest.mark.parametrize(("most", "share"), [(1, 1), (2, 1), (4, 3)])
def test_one_caller_leaves_a_place_to_others(most: int, share: int) -> None:
    stored = Stored("nowhere", most)
    with ExitStack() as stack:
        for _ in range(share):
            stack.enter_context(stored.archive("key ada"))
        with pytest.raises(ProblemError) as refused, stored.archive("key ada"):
            pass
        assert refused.value.problem.status == (503 if most == share else 429)
        if most > share:
            with stored.archive("key grace"):
                pass
    with stored.archive("key ada"):
        pass


def test_a_single_place_is_anybodys() -> None:
    """As docs/exports.md says: nothing can be left to others then."""
    stored = Stored("nowhere", 1)
    with stored.archive("key ada"), pytest.raises(ProblemError) as full, stored.archive("key grace"):
        pass
    assert full.value.problem.status == 503


def test_a_url_is_logged_without_its_password(caplog: pytest.LogCaptureFixture) -> None:
    stored = Stored("nothing://ada:hunter2@host/bucket", 1)

    async def fail() -> None:
        async with stored.open(NAME):
            pass

    with pytest.raises(ProblemError):
        asyncio.run(fail())
    assert f"nothing://host/bucket/exports/{NAME}" in caplog.text
    assert "hunter2" not in caplog.text
