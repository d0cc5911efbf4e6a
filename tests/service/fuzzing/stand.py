"""A worker's stand-in that answers everything: it makes exports, moves the head, and carries out every job."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis

from service.contracts.edits import EditStatus
from service.contracts.exports import ExportRequest
from service.contracts.jobs import JobStatus
from service.contracts.lane import LaneAnswer, LaneRequest
from service.contracts.revisions import ActivationRequest
from service.errors import ProblemError
from service.jobs import Jobs
from service.keys import Keys
from service.ledger import EditEndedError
from tests.service import benchmarking, tracing
from tests.service.export_stand import ExportStand
from tests.service.stand_in import StandIn

LOOK_SECONDS = 0.1
"""How long a job may wait."""

LARGE = {"model-00001-of-00002.safetensors": b"\0first", "model-00002-of-00002.safetensors": b""}


class Willing(StandIn):
    """Answers every request as a worker would: with what was asked for, or with the problem that it has with it.

    working: whoever holds it keeps jobs waiting.
    """

    def __init__(self, redis: Redis, keys: Keys, blobs: Path) -> None:
        super().__init__(redis, keys)
        self.exports = ExportStand(self, blobs, LARGE)
        self.answer = self.answer_anything
        self.carrying: dict[str, tuple[Jobs[Any, Any], Callable[[str], Any]]] = {
            "edit": (self.edits, self.apply),
            "evaluation": (self.evaluations, self.evaluate),
            "trace": (tracing.traces_of(self), partial(tracing.carry_out, self)),
            "benchmark": (benchmarking.benchmarks_of(self), partial(benchmarking.carry_out, self)),
        }
        self.working = threading.Lock()
        self._moving = threading.RLock()

    def publish(self, **changes: Any) -> None:
        """Put up the card of a model that one can talk to."""
        super().publish(**{"chat": True, **changes})

    def append(self, *args: Any, **fields: Any) -> int:
        """Append an entry, one at a time."""
        with self._moving:
            return super().append(*args, **fields)

    def answer_anything(self, request: LaneRequest) -> Any:
        try:
            if isinstance(request.body, ExportRequest):
                return self.exports.answer(request)
            if isinstance(request.body, ActivationRequest):
                self._allow(request.body)
            return self.answers(request)
        except ProblemError as error:
            return LaneAnswer(id=request.id, problem=error.problem)

    def _allow(self, body: ActivationRequest) -> None:
        in_force = body.edit in self.ledger.active_edits()
        if body.active and body.edit not in self.ledger.lines().committed:
            raise ProblemError(409, "edit-not-applied", f"Edit {body.edit} was never applied.")
        if body.active == in_force:
            raise ProblemError(409, "edit-active" if in_force else "edit-not-active", f"Edit {body.edit} stays.")

    def carry_out(self) -> None:
        """Bring every job that waits to an end; of edits each third fails."""
        for noun, (jobs, act) in self.carrying.items():
            for job_id in jobs.pending():
                if noun == "edit" and int(job_id, 16) % 3 == 0:
                    self.edits.end_as(job_id, EditStatus.FAILED, ProblemError(422, "diverged", "It diverged.").problem)
                    continue
                try:
                    act(job_id)
                except EditEndedError:
                    continue  # cancelled meanwhile
                except ProblemError as error:
                    jobs.end_as(job_id, JobStatus.FAILED, error.problem)


@contextmanager
def willing(redis: Redis, keys: Keys, blobs: Path) -> Iterator[Willing]:
    """Such a stand-in, which serves and works until this is left."""
    stop = threading.Event()
    with Willing(redis, keys, blobs) as stand:

        def work() -> None:
            while not stop.wait(LOOK_SECONDS):
                with stand.working:
                    stand.carry_out()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield stand
        finally:
            stop.set()
            thread.join(60)
