"""What jobs of every kind have in common: taken up, run on the model thread step by step, and brought to an end."""

import logging
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, Generic, TypeVar

from redis.exceptions import RedisError

from service.contracts.jobs import Progress
from service.contracts.problem import Problem
from service.documents import Document
from service.errors import ProblemError
from service.jobs import Jobs
from worker.editing.progress import Step, Steps
from worker.engine.model_thread import ModelThread, StoppedError
from worker.errors import EditError, WorkerError

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 3
"""A job during which so many workers died is not tried again."""

REPORT_SECONDS = 0.1
"""How often progress is written and a cancellation looked for."""

Result = TypeVar("Result")


class Job(ABC, Generic[Document, Result]):
    """Runs jobs of one kind, from the document to the end, whatever happens on the way; called on the main thread.

    draining: set when the worker is to end; stop: set to end the running job alone.
    fence: raises LeaseLostError if another worker has the model now; the job is that one's then, not to be touched.
    """

    thread: ModelThread
    draining: threading.Event
    stop: threading.Event
    fence: Callable[[], None]

    @property
    @abstractmethod
    def jobs(self) -> Jobs[Any, Document]:
        """The documents of this kind."""

    @abstractmethod
    def begin(self, job: Document) -> Steps[Result]:
        """The computation that the job asks for; raises a problem if the model cannot take it."""

    @abstractmethod
    def conclude(self, job: Document, result: Result) -> None:
        """Write down what has come of the job."""

    def __call__(self, job_id: str) -> None:
        """Take the job up and bring it to an end; hand it back if the worker is told to stop."""
        if self.draining.is_set():
            return
        self.fence()
        if not self.jobs.take_up(job_id):
            return
        noun = self.jobs.noun
        try:
            self._run(self.jobs.get(job_id))  # which is validated again: others than the API could have written it
        except ProblemError as error:
            log.info("%s %s failed: %s", noun, job_id, error.problem.type)  # the detail may hold a prompt
            self._end(job_id, "failed", error.problem)
        except (WorkerError, RedisError):
            raise
        except Exception as error:
            log.exception("%s %s failed", noun, job_id)
            detail = f"The {noun} failed: {type(error).__name__}: {error}"
            self._end(job_id, "failed", ProblemError(500, f"{noun}-failed", detail).problem)

    def _end(self, job_id: str, status: str, problem: Problem | None = None) -> None:
        self.fence()
        self.jobs.end_as(job_id, status, problem)

    def _run(self, job: Document) -> None:
        if job.attempts > MOST_ATTEMPTS:
            times = f"The worker died {MOST_ATTEMPTS} times during this {job.noun}"
            raise ProblemError(500, "worker-died", f"{times}, so it is not tried again.")
        steps = self.begin(job)
        self.stop.clear()
        latest: queue.SimpleQueue[Step] = queue.SimpleQueue()
        future = self.thread.submit(steps, latest.put, self.stop)
        while not wait([future], timeout=REPORT_SECONDS).done:
            self._look(job, latest)
        self._finish(job, future)

    def _finish(self, job: Document, future: Future[Result]) -> None:
        try:
            result = future.result()
        except StoppedError:
            if self.draining.is_set() and not self.jobs.cancel_requested(job.id):
                self.fence()
                self.jobs.hand_back(job.id)
            else:
                self._end(job.id, "cancelled")
        except EditError as error:
            raise ProblemError(422, error.name, str(error)) from error
        else:
            self.conclude(job, result)

    def _look(self, job: Document, latest: "queue.SimpleQueue[Step]") -> None:
        try:
            if self.draining.is_set() or self.jobs.cancel_requested(job.id):
                self.stop.set()
            if (step := _last(latest)) is not None:
                self.jobs.report(job.id, _progress(step))
        except RedisError as error:
            log.warning("cannot report on %s %s: %s", job.noun, job.id, error)


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
        seconds_left=step.seconds_left,
    )
