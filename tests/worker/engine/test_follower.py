"""A worker comes to the head that another moves, at once when asked and by itself when not, or says why it cannot."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from service.errors import ProblemError
from service.keys import Keys
from tests.worker.engine.kit import Boot, Stand, live_checksum, random_delta
from worker.engine.follower import Follower
from worker.errors import CorruptStateError, WorkerError

SECONDS = 60.0


class Following:
    """A follower of a leader, both real; the test is its model thread."""

    def __init__(self, boot: Boot, redis: Redis, keys: Keys, patience: float = SECONDS) -> None:
        self.leader, self.stand = boot(), boot()
        self.woken = threading.Event()
        self.told: list[str] = []
        self.follower = Follower(self.stand.history, redis, keys, self.woken.set, self.told.append, patience)

    def blob(self) -> Path:
        """The file of an edit that the leader has committed just now."""
        return self.leader.blobs_folder / f"{self.leader.commit(random_delta(self.leader.loaded)).blob}.safetensors"

    @property
    def caught_up(self) -> bool:
        return live_checksum(self.stand.loaded) == live_checksum(self.leader.loaded)

    def close(self) -> None:
        self.follower.end()
        if self.follower.ident is not None:
            self.follower.join(SECONDS)
            assert not self.follower.is_alive()


@pytest.fixture
def following(boot: Boot, redis: Redis, keys: Keys) -> Iterator[Following]:
    made = Following(boot, redis, keys)
    yield made
    made.close()


def test_whoever_asks_is_answered_from_the_head_of_this_moment(following: Following) -> None:
    following.blob()
    assert following.follower.catch_up(asked=False) is None
    assert not following.caught_up
    assert following.follower.catch_up(asked=True) is None
    assert following.caught_up
    following.leader.history.rollback(0)
    assert following.follower.catch_up(asked=True) is None
    assert following.caught_up
    assert following.stand.resident.revision == 2
    assert following.told == []


def test_it_follows_though_nobody_asks(following: Following) -> None:
    following.follower.start()
    for moves in range(1, 4):
        following.blob()
        while not following.caught_up:
            assert following.woken.wait(SECONDS)
            following.woken.clear()
            assert following.follower.catch_up(asked=False) is None
        assert following.stand.resident.revision == moves


def test_a_blob_that_is_on_its_way_is_waited_for(following: Following) -> None:
    """Those who ask meanwhile are told to come again, and so is everybody who looks at the worker's notice."""
    blob = following.blob()
    content = blob.read_bytes()
    blob.unlink()
    following.follower.start()
    problem = following.follower.catch_up(asked=True)
    assert problem is not None
    assert (problem.problem.status, problem.retry_after) == (503, 1)
    assert problem.problem.type.endswith(":revision-not-reached")
    assert ProblemError.of(problem.problem).retry_after == 1
    following.woken.clear()
    assert following.woken.wait(SECONDS), "it is tried again though nobody asks"
    assert following.follower.catch_up(asked=False) is not None
    assert len(following.told) == 1
    assert blob.stem in following.told[0]
    blob.write_bytes(content)
    assert following.follower.catch_up(asked=False) is None
    assert following.caught_up
    assert following.told[1:] == [""]
    assert following.stand.ledger.failed_checks() == 0, "nothing is wrong with what only comes late"
    following.woken.clear()
    assert following.follower.catch_up(asked=True) is None
    assert len(following.told) == 2


def test_a_blob_that_does_not_come_ends_the_worker(boot: Boot, redis: Redis, keys: Keys) -> None:
    following = Following(boot, redis, keys, patience=0)
    blob = following.blob()
    blob.unlink()
    assert following.follower.catch_up(asked=True) is not None
    with pytest.raises(CorruptStateError, match=blob.stem) as raised:
        following.follower.catch_up(asked=True)
    assert isinstance(raised.value, WorkerError)
    assert following.stand.ledger.failed_checks() > 0
    assert live_checksum(following.stand.loaded) == following.stand.resident.base_checksum


def test_a_redis_that_is_away_is_no_reason_to_end(following: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    following.blob()

    def away(*_: Any) -> None:
        raise RedisConnectionError("away")

    with monkeypatch.context() as patch:
        patch.setattr(following.stand.ledger, "head", away)
        problem = following.follower.catch_up(asked=True)
        assert problem is not None
        assert problem.problem.type.endswith(":redis-unavailable")
        assert following.told == []
    assert following.follower.catch_up(asked=False) is None, "it is tried again though nobody asks"
    assert following.caught_up


def test_a_leader_follows_itself_for_nothing(boot: Boot, redis: Redis, keys: Keys) -> None:
    stand: Stand = boot()
    follower = Follower(stand.history, redis, keys, lambda: None, lambda _: None)
    stand.commit(random_delta(stand.loaded))
    before = stand.state()
    assert follower.catch_up(asked=True) is None
    assert stand.state() == before
