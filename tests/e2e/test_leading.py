"""Two workers: one leads, one follows, both answer; killed, frozen, and what becomes of what they were given."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from service.contracts.edits import EditStatus
from service.contracts.generate import Comparison
from service.contracts.model import WorkerState
from service.errors import ProblemError
from tests.conftest import _free_port
from tests.e2e.kit import SLOW, Place, Worker, open_place, until


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with open_place(tmp_path_factory.mktemp("leading"), _free_port) as opened:
        yield opened


def _pair(place: Place) -> tuple[Worker, Worker]:
    """A leader and a follower, both ready."""
    leader = place.hire()
    others = [worker for worker in place.running if worker is not leader]
    follower = others[0] if others else place.start_worker()
    follower.until_it_says("following")
    until(lambda: follower.pid in _lags(place), place.says)
    return leader, follower


def _lags(place: Place) -> dict[int, int | None]:
    """Of each ready worker, by its process, how far it is behind the head."""
    try:
        return {worker.pid: worker.lag for worker in place.client.ready().workers if worker.state is WorkerState.READY}
    except ProblemError:
        return {}


def _held_by(place: Place, worker: str) -> int:
    """Requests that a worker has been given and not answered."""
    pending: dict[str, Any] = place.redis.xpending(place.keys.lane, "workers")
    return {one["name"]: int(one["pending"]) for one in pending["consumers"]}.get(worker, 0)


def test_two_workers_share_the_readers_and_both_serve_the_head(place: Place) -> None:
    leader, follower = _pair(place)
    edit = place.ended(place.submit().id)
    assert edit.status is EditStatus.APPLIED, edit
    after = place.compare().after.tokens
    back = place.client.rollback(0)
    until(lambda: _lags(place) == {leader.pid: 0, follower.pid: 0}, place.says)
    ready = place.client.ready()
    assert (ready.revision, ready.worker.pid, ready.worker.leader) == (back.revision, leader.pid, True)
    assert [one.leader for one in place.client.model().workers] == [True, False]

    def both_have_answered() -> bool:
        request = {"before": f"r{edit.revision}", "after": "head"}
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: place.compare(**request), range(16)))
        assert {answer.before.tokens for answer in answers} == {after}
        assert {answer.after.revision for answer in answers} == {back.revision}
        # since when a worker has been given nothing; -1 until it is given something
        given = {one["name"]: one["inactive"] for one in place.redis.xinfo_consumers(place.keys.lane, "workers")}
        return all(given[worker.worker] >= 0 for worker in place.client.ready().workers)

    until(both_have_answered, place.says)


def test_whoever_asks_for_a_revision_waits_for_it(place: Place) -> None:
    """Read your writes: an edit is asked for, and what it changes, with no look at the edit between the two."""
    _pair(place)
    head = len(place.checksums())
    edit = place.submit()
    with pytest.raises(ProblemError, match=f"min_revision: r{head + 9} is not there yet") as raised:
        place.compare(min_revision=head + 9)
    assert raised.value.problem.status == 503

    def answered() -> Comparison | None:
        try:
            return place.compare(min_revision=head)
        except ProblemError as error:
            if error.problem.type.endswith("revision-not-reached"):
                return None
            raise

    compared: Comparison = until(answered, place.says)
    assert place.client.edits.get(edit.id).revision == compared.after.revision == head


def test_a_follower_takes_over_from_a_killed_leader_in_mid_edit(place: Place) -> None:
    leader, follower = _pair(place)
    before = place.checksums()
    edit = place.submit(hparams=SLOW)
    place.at_value_step(edit.id)
    assert place.ready_pid() == leader.pid
    leader.kill()
    place.until_ready(follower)
    ended = place.ended(edit.id)
    assert (ended.status, ended.attempts, ended.revision) == (EditStatus.APPLIED, 2, len(before))
    assert place.checksums()[:-1] == before
    assert place.client.model().checksum == place.checksums()[-1]


def test_a_move_waits_for_the_next_leader(place: Place) -> None:
    leader, follower = _pair(place)
    before = place.checksums()
    leader.kill()
    back = place.client.rollback(0)
    assert back.revision == len(before)
    assert place.checksums() == [*before, back.checksum]
    place.until_ready(follower)
    assert place.client.ready().worker.leader


def test_what_a_killed_worker_was_asked_another_answers(place: Place) -> None:
    """A frozen worker is still given requests: they are not lost with it."""
    leader, follower = _pair(place)
    expected = place.compare().after.tokens
    frozen = next(worker.worker for worker in place.client.ready().workers if worker.pid == follower.pid)
    follower.signal(signal.SIGSTOP)
    with ThreadPoolExecutor(16) as pool:
        answers = []
        while not _held_by(place, frozen):
            answers += [pool.submit(place.compare) for _ in range(16)]
            time.sleep(0.1)
        follower.kill()
        assert [answer.result().after.tokens for answer in answers] == [expected] * len(answers)
    assert place.ready_pid() == leader.pid
    assert _held_by(place, frozen) == 0


def test_a_frozen_worker_finds_that_it_has_lost_its_model(place: Place) -> None:
    """It wakes in the middle of an edit that is another's now, and touches nothing."""
    frozen = place.hire()
    before = place.checksums()
    edit = place.submit(hparams=SLOW)
    place.at_value_step(edit.id)
    frozen.signal(signal.SIGSTOP)
    try:
        place.until_ready(place.start_worker())
        until(lambda: place.client.edits.get(edit.id).attempts == 2, place.says)
        place.at_value_step(edit.id)
    finally:
        frozen.signal(signal.SIGCONT)
    assert frozen.ended() == 6, frozen.said
    assert "another" in frozen.said
    ended = place.ended(edit.id)
    assert (ended.status, ended.attempts, ended.revision) == (EditStatus.APPLIED, 2, len(before))
    assert place.checksums()[:-1] == before
    assert place.client.model().checksum == place.checksums()[-1]
    assert place.ready_pid()
