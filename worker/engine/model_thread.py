"""The only thread that ever touches the model: one long task step by step, and readers between the steps."""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from worker.editing.progress import Step, Steps
from worker.engine.device import device_error
from worker.errors import WorkerError

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class StoppedError(Exception):
    """The task was asked to stop between two steps; it has left nothing behind."""


@dataclass(frozen=True)
class _Task:
    """What is to be run, whom to tell, when to stop; in the context of whoever submitted it, whose logs it writes."""

    steps: Steps[Any]
    on_step: Callable[[Step], None]
    stop: threading.Event
    future: Future[Any]
    context: Context


class ModelThread(threading.Thread):
    """Runs tasks one after the other, each a generator that yields between small steps.

    It loads the model, too: each thread that computes on a CPU has a team of OpenMP threads that stays, and as soon as
    all teams together have more threads than there are cores, they sleep at every barrier instead of spinning, which
    makes an edit take half as long again.
    """

    def __init__(self) -> None:
        super().__init__(name="model", daemon=True)
        self._serve_readers: Callable[[], bool] = lambda: False
        self._on_fatal: Callable[[BaseException], None] = lambda _: None
        self._tasks: deque[_Task] = deque()
        self._step_began: float | None = None
        self._changed = threading.Condition()
        self._awake = False
        self._ending = False
        self._ended: BaseException | None = None
        self._more = False
        self._readers_lead = 0.0

    def serve(self, readers: Callable[[], bool], on_fatal: Callable[[BaseException], None]) -> None:
        """Answer readers from now on.

        readers: answers what is waiting, if anything, for one small step, and returns whether there is more to do;
        called between steps and when `wake` is called. Where both have more to do, each has half of the time, and who
        has just come is served before the next step. on_fatal: told of an error after which the process must end.
        """
        self._serve_readers, self._on_fatal = readers, on_fatal

    def call(self, function: Callable[[], Result]) -> Result:
        """What a function returns, or raises, that is called on this thread as a task of one step."""
        future: Future[Result] = Future()

        def steps() -> Steps[None]:
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - it is the caller's, and ends nothing here
                future.set_exception(error)
            yield from ()

        self.submit(steps(), lambda _: None, threading.Event()).result()
        return future.result()

    def submit(self, steps: Steps[Result], on_step: Callable[[Step], None], stop: threading.Event) -> "Future[Result]":
        """Run a task after those before it. When `stop` is set it is closed between two steps: StoppedError.

        Once the thread has ended, every task fails at once with what ended it.
        """
        future: Future[Result] = Future()
        with self._changed:
            if self._ended is not None:
                future.set_exception(self._ended)
                return future
            self._tasks.append(_Task(steps, on_step, stop, future, copy_context()))
            self._changed.notify()
        return future

    def wake(self) -> None:
        """Readers are waiting."""
        with self._changed:
            self._awake = True
            self._changed.notify()

    @property
    def step_seconds(self) -> float:
        """How long the present step of a task or of the readers has taken; 0 between them, infinite once it has ended.

        To be asked by other threads: whether this one hangs.
        """
        began = self._step_began
        if not self.is_alive():
            return math.inf
        return 0.0 if began is None else time.monotonic() - began

    def end(self) -> None:
        """End after the present step; tasks that are left are stopped."""
        with self._changed:
            self._ending = True
            self._changed.notify()

    def run(self) -> None:
        """The thread's life."""
        try:
            while self._wait():
                self._serve()
                self._work()
            self._abandon(StoppedError())
        except BaseException as error:
            log.exception("the model thread ends")
            fatal = device_error(error) or error
            self._abandon(fatal)
            self._on_fatal(fatal)

    def _abandon(self, error: BaseException) -> None:
        with self._changed:
            self._ended = error
            for task in self._tasks:
                _close(task.steps)
                task.future.set_exception(error)

    def _wait(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._tasks or self._awake or self._more or self._ending)
            self._awake = False
            return not self._ending

    def _serve(self) -> None:
        """Serve readers until nothing is left, or they have had more of the time than the task."""
        self._more = True
        while self._more and not self._ending:
            self._step_began = begin = time.monotonic()
            self._more = self._serve_readers()
            self._step_began = None
            self._readers_lead += time.monotonic() - begin
            if not self._tasks:
                self._readers_lead = 0.0  # who is alone takes nothing from anybody
            elif self._readers_lead >= 0:
                return

    def _work(self) -> None:
        """Advance the task by a step, or by more until it has had as much of the time as the readers who wait."""
        while self._tasks and not self._ending:
            self._step_began = begin = time.monotonic()
            self._advance()
            self._step_began = None
            self._readers_lead -= time.monotonic() - begin
            if not self._more or self._awake or self._readers_lead <= 0:
                break
        if not self._more:
            self._readers_lead = 0.0

    def _advance(self) -> None:
        task = self._tasks[0]
        if task.stop.is_set():
            self._tasks.popleft()
            task.steps.close()
            task.future.set_exception(StoppedError())
            return
        try:
            task.on_step(task.context.run(next, task.steps))
        except StopIteration as end:
            self._tasks.popleft()
            task.future.set_result(end.value)
        except WorkerError:
            raise
        except Exception as error:
            if device_error(error) is not None:
                raise
            self._tasks.popleft()
            task.steps.close()
            task.future.set_exception(error)


def _close(steps: Steps[Any]) -> None:
    try:
        steps.close()
    except Exception:
        # as on a lost device, on which a task cannot even clean up; whoever waits must hear of the end all the same
        log.exception("a task could not clean up")
