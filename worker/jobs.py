"""What RQ may ask for: run one edit, from its document to its end, whatever happens on the way."""

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from service.checks import CountTokens, check_edit
from service.contracts.edits import AnyEditRequest, Edit, EditStatus, Outcome
from service.contracts.jobs import Progress
from service.contracts.model import ModelCard
from service.contracts.problem import Problem
from service.contracts.revisions import Revision
from service.edits import Edits
from service.errors import ProblemError
from service.ledger import EditEndedError
from worker.editing.progress import Step, Steps
from worker.engine.model_thread import ModelThread, StoppedError
from worker.engine.verdict import Uncommitted
from worker.errors import EditError, WorkerError

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 3
"""An edit during which so many workers died is not tried again."""

REPORT_SECONDS = 0.1
"""How often progress is written and a cancellation looked for."""


@dataclass(frozen=True)
class EditJob:
    """Runs edits; called by RQ with an edit's id, on the main thread.

    draining: set when the worker is to end; stop: set to end the running edit alone.
    fence: raises LeaseLostError if another worker has the model now; the edit is that one's then, not to be touched.
    """

    edits: Edits
    thread: ModelThread
    card: ModelCard
    count_tokens: CountTokens
    start: Callable[[str, AnyEditRequest], Steps[Revision | Uncommitted]]
    draining: threading.Event
    stop: threading.Event
    fence: Callable[[], None]

    def __call__(self, edit_id: str) -> None:
        """Take the edit up and bring it to an end; hand it back if the worker is told to stop."""
        if self.draining.is_set():
            return
        self.fence()
        if not self.edits.take_up(edit_id):
            return
        edit = self.edits.get(edit_id)
        try:
            self._run(edit)
        except ProblemError as error:
            log.info("edit %s failed: %s", edit_id, error)
            self._end(edit_id, EditStatus.FAILED, error.problem)
        except EditEndedError:
            self._end(edit_id, EditStatus.CANCELLED)
        except (WorkerError, RedisError):
            raise
        except Exception as error:
            log.exception("edit %s failed", edit_id)
            problem = ProblemError(500, "edit-failed", f"The edit failed: {type(error).__name__}: {error}").problem
            self._end(edit_id, EditStatus.FAILED, problem)

    def _end(
        self, edit_id: str, status: EditStatus, problem: Problem | None = None, outcome: Outcome | None = None
    ) -> None:
        self.fence()
        self.edits.end(edit_id, status, problem, outcome)

    def _run(self, edit: Edit) -> None:
        if edit.attempts > MOST_ATTEMPTS:
            raise ProblemError(
                500, "worker-died", f"The worker died {MOST_ATTEMPTS} times during this edit, so it is not tried again."
            )
        check_edit(edit.request, self.card, self.count_tokens)
        self.stop.clear()
        latest: queue.SimpleQueue[Step] = queue.SimpleQueue()
        future = self.thread.submit(self.start(edit.id, edit.request), latest.put, self.stop)
        while not wait([future], timeout=REPORT_SECONDS).done:
            self._look(edit.id, latest)
        self._finish(edit.id, future)

    def _finish(self, edit_id: str, future: Future[Revision | Uncommitted]) -> None:
        try:
            end = future.result()
        except StoppedError:
            if self.draining.is_set() and not self.edits.cancel_requested(edit_id):
                self.fence()
                self.edits.hand_back(edit_id)
            else:
                self._end(edit_id, EditStatus.CANCELLED)
        except EditError as error:
            raise ProblemError(422, error.name, str(error)) from error
        else:
            if isinstance(end, Uncommitted):
                log.info("edit %s is %s", edit_id, end.status)
                self._end(edit_id, end.status, end.problem, end.outcome)
            else:
                log.info("edit %s is applied as r%d", edit_id, end.revision)

    def _look(self, edit_id: str, latest: "queue.SimpleQueue[Step]") -> None:
        try:
            if self.draining.is_set() or self.edits.cancel_requested(edit_id):
                self.stop.set()
            if (step := _last(latest)) is not None:
                self.edits.report(edit_id, _progress(step))
        except RedisError as error:
            log.warning("cannot report on edit %s: %s", edit_id, error)


def _last(steps: "queue.SimpleQueue[Any]") -> Any:
    last = None
    while not steps.empty():
        last = steps.get()
    return last


def _progress(step: Step) -> Progress:
    return Progress(
        phase=step.phase,
        step=step.step,
        steps=step.steps,
        loss=step.loss,
        target_probability=step.target_probability,
    )
