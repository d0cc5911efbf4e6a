"""What a process says of a Redis that is away: not five times a second."""

import asyncio
import logging
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from service import answers
from service.answers import Answers
from service.keys import Keys


class Flickering:
    """Redis as far as answers need it: away for some readings, then there for one, as often as is wanted."""

    def __init__(self, *away: int) -> None:
        self._readings = [there for times in away for there in (*[False] * times, True)]
        self.over = asyncio.Event()

    async def xread(self, *_: object, **__: object) -> None:
        await asyncio.sleep(0)
        if not self._readings:
            self.over.set()
            await asyncio.Event().wait()
        if not self._readings.pop(0):
            raise RedisConnectionError("away")

    async def delete(self, _: str) -> None:
        """The stream goes."""


def _told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *away: int) -> list[tuple[str, str]]:
    monkeypatch.setattr(answers, "RETRY_SECONDS", 0.001)
    caplog.set_level(logging.INFO, logger=answers.__name__)

    async def read() -> None:
        redis: Any = Flickering(*away)
        async with asyncio.timeout(60), Answers(redis, Keys("m")).reading():
            await redis.over.wait()

    asyncio.run(read())
    return [(record.levelname, record.getMessage().split(" ", 3)[3]) for record in caplog.records]


AWAY, BACK = ("WARNING", "does not answer: away"), ("WARNING", "answers again")


def test_each_time_it_goes_and_comes_back_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert _told(monkeypatch, caplog, 0, 20, 0, 20) == [AWAY, BACK, AWAY, BACK]


def test_one_that_stays_away_is_told_of_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(answers, "TELL_SECONDS", 0.0)
    assert _told(monkeypatch, caplog, 3) == [AWAY, AWAY, AWAY, BACK]
