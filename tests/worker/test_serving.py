"""One turn of the readers: who has asked is answered from the head of this moment, who has gone is let go."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from service.contracts.exports import FOLDER
from service.contracts.lane import LaneAnswer, LaneRequest
from service.contracts.revisions import RollbackRequest
from service.keys import Keys
from tests.families import tiny_model
from tests.worker.engine.kit import Stand, random_delta
from tests.worker.engine.reading_desk import PROMPT, Body, ReadingDesk, asking, refusal, request_of, whole
from tests.worker.lane_desk import SECONDS, answers_in, until
from worker.engine.blobs import BlobStore
from worker.engine.folder import Folder
from worker.engine.follower import Follower
from worker.engine.model_thread import ModelThread
from worker.engine.readers import MOST_ROWS
from worker.export.exporter import Exporter
from worker.gone import Gone
from worker.heartbeat import Board
from worker.lane import GROUP, Lane
from worker.outbox import Outbox
from worker.serving import Serving, _turn
from worker.settings import Settings


class Worker:
    """Everything that serves readers, on a real Redis; the model thread is the test."""

    def __init__(self, redis: Redis, keys: Keys, folder: Path) -> None:
        self.redis: Any = redis
        self.keys = keys
        self.desk = ReadingDesk(Stand(redis, keys, tiny_model("gpt2"), folder))
        self.woken = threading.Event()
        self.outbox = Outbox(redis)
        self.gone = Gone(redis, keys, self.woken.set)
        self.lane, self.moves = (
            Lane(redis, keys, stream, "w", self.woken.set, self.outbox) for stream in (keys.lane, keys.moves)
        )
        self.exporter = Exporter(self.desk.stand.history, Folder.at(folder / "exports"), self.woken.set)
        blobs = BlobStore(self.desk.stand.blobs_folder)
        self.exporter = Exporter(self.desk.stand.history, blobs.folder.under(FOLDER), self.woken.set)
        self.follower = Follower(self.desk.stand.history, redis, keys, self.woken.set, lambda _: None)
        for each in (self.lane, self.moves):
            each.open()
        for thread in self._threads:
            thread.start()
        until(lambda: self.redis.pubsub_numsub(keys.gone)[0][1] == 1)

    @property
    def _threads(self) -> list[Outbox | Gone | Lane]:
        return [self.outbox, self.gone, self.lane, self.moves]

    def close(self) -> None:
        for thread in self._threads:
            thread.end()
        for thread in self._threads:
            thread.join(SECONDS)

    def turn(self) -> bool:
        """One turn, and whether there is more to do."""
        return _turn(self.desk.readers, self.exporter, self.follower, self.gone, self.lane, self.moves)

    def send(self, *bodies: Body) -> list[LaneRequest]:
        """Requests that are there to be taken."""
        sent = [request_of(body) for body in bodies]
        for request in sent:
            stream = self.moves if isinstance(request.body, RollbackRequest) else self.lane
            self.redis.xadd(stream._stream, {"request": request.model_dump_json()})
        until(lambda: len(self.lane._waiting) + len(self.moves._waiting) >= len(sent))
        return sent

    def leaves(self, request: LaneRequest) -> None:
        """Whoever has asked goes away, which is heard."""
        self.redis.publish(self.keys.gone, request.id)
        until(lambda: request.id in self.gone.ids)

    def answer(self, request: LaneRequest) -> LaneAnswer:
        """The last answer, once it is there."""

        def found() -> list[LaneAnswer]:
            return [answer for answer in answers_in(self.redis) if answer.id == request.id and answer.last]

        until(found)
        (answer,) = found()
        return answer

    def until_nothing_is_left(self) -> None:
        """No entry in any stream."""
        until(lambda: self._left() == [(0, 0)] * 2, self._left)

    def _left(self) -> list[tuple[int, int]]:
        """Entries, and those that are taken and not acknowledged, of each stream."""
        streams = (self.keys.lane, self.keys.moves)
        return [(self.redis.xlen(each), self.redis.xpending(each, GROUP)["pending"]) for each in streams]


@pytest.fixture
def worker(redis: Redis, keys: Keys, tmp_path: Path) -> Iterator[Worker]:
    made = Worker(redis, keys, tmp_path)
    yield made
    made.close()


def _finish(turn: Callable[[], bool]) -> None:
    for _ in range(1000):
        if not turn():
            return
    raise AssertionError("there is always more to do")


def test_whoever_asks_is_answered(worker: Worker) -> None:
    first, second, move = worker.send(asking(), asking("The", stream=True), RollbackRequest(to=1))
    _finish(worker.turn)
    assert {whole(worker.answer(request)).started.revisions for request in (first, second)} == {(0, 2)}
    revision = worker.answer(move).revision
    assert revision is not None
    assert revision.revision == 3
    worker.until_nothing_is_left()


@pytest.mark.parametrize("turns", [0, 1, 3])
def test_who_goes_away_is_let_go_whether_taken_or_not(worker: Worker, turns: int) -> None:
    (gone, stays) = worker.send(asking("The", max_new_tokens=30), asking())
    for _ in range(turns):
        worker.turn()
    worker.leaves(gone)
    worker.turn()
    assert {row.ids for row in worker.desk.rows} == {tuple(worker.desk.stand.loaded.tokenizer(PROMPT)["input_ids"])}
    _finish(worker.turn)
    assert whole(worker.answer(stays)).started.revisions == (0, 2)
    worker.until_nothing_is_left()
    assert [answer.id for answer in answers_in(worker.redis)] == [stays.id]


def test_who_has_gone_before_asking_arrives_is_let_go_too(worker: Worker) -> None:
    request = request_of(asking())
    worker.leaves(request)
    worker.redis.xadd(worker.keys.lane, {"request": request.model_dump_json()})
    until(lambda: worker.lane._waiting)
    assert not worker.turn()
    worker.until_nothing_is_left()
    assert answers_in(worker.redis) == []


def test_the_head_is_what_another_worker_has_made_of_it(
    worker: Worker, redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    other = Stand(redis, keys, tiny_model("gpt2"), tmp_path)
    other.commit(random_delta(other.loaded, 3, seed=8))
    (request,) = worker.send(asking())
    _finish(worker.turn)
    assert whole(worker.answer(request)).started.revisions == (0, 3)


def test_while_the_head_cannot_be_reached_who_asks_is_told_and_rows_go_on(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> None:
        raise RedisConnectionError("away")

    (before,) = worker.send(asking(max_new_tokens=12))
    worker.turn()
    with monkeypatch.context() as patch:
        patch.setattr(worker.desk.stand.history, "follow", fail)
        (meanwhile,) = worker.send(asking())
        worker.turn()
    (after,) = worker.send(asking())
    _finish(worker.turn)
    assert refusal(worker.answer(meanwhile)).status == 503
    for request in (before, after):
        assert whole(worker.answer(request)).started.revisions == (0, 2)
    worker.until_nothing_is_left()


@pytest.mark.parametrize("given", [0, 7, None])
def test_what_readers_may_take_is_what_the_operator_says(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch, given: int | None
) -> None:
    """Nothing is something to say: one row at a time."""
    monkeypatch.delenv("PALIMPSEST_READING_BYTES", raising=False)
    if given is not None:
        monkeypatch.setenv("PALIMPSEST_READING_BYTES", str(given))
    thread = ModelThread()
    thread.start()
    settings, board = Settings(max_batch_rows=given or None), Board(redis, keys, 10)
    serving = Serving(settings, tiny_model("gpt2"), thread, redis, redis, board)
    thread.end()
    found = serving._reading_bytes()
    assert found == given if given is not None else found > 2**20
    assert serving._most_rows() == (given or MOST_ROWS["cpu"])
