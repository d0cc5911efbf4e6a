"""One thread runs tasks in order, lets readers in between their steps, and ends cleanly."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest
import torch

from worker.editing.progress import Step, Steps
from worker.engine.model_thread import ModelThread, StoppedError
from worker.errors import DeviceError, WorkerError

SECONDS = 60.0


class Running:
    """A running model thread whose readers' turns and last error are noted."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.fatal: list[BaseException] = []
        self.serve: Callable[[], bool | None] = lambda: False
        self.thread = ModelThread()
        self.thread.serve(self._serve, self.fatal.append)

    def _serve(self) -> bool:
        self.log.append("readers")
        return bool(self.serve())

    def submit(self, steps: Steps[str], stop: threading.Event | None = None) -> "Future[str]":
        """Submit a task whose steps are noted."""
        return self.thread.submit(steps, lambda step: self.log.append(step.phase), stop or threading.Event())


@pytest.fixture
def running() -> Iterator[Running]:
    harness = Running()
    harness.thread.start()
    yield harness
    harness.thread.end()
    harness.thread.join(SECONDS)
    assert not harness.thread.is_alive()


def _task(name: str, steps: int, closed: list[str] | None = None) -> Steps[str]:
    try:
        for step in range(steps):
            yield Step(f"{name}{step}")
    finally:
        if closed is not None:
            closed.append(name)
    return name


def _endless(closed: threading.Event, begun: threading.Event) -> Steps[str]:
    try:
        while True:
            begun.set()
            yield Step("on and on")
    finally:
        closed.set()


def test_readers_are_served_before_every_step(running: Running) -> None:
    assert running.submit(_task("a", 3)).result(SECONDS) == "a"
    assert running.log == ["readers", "a0", "readers", "a1", "readers", "a2", "readers"]


def test_what_is_called_runs_on_the_thread_in_its_turn(running: Running) -> None:
    tasks = [running.submit(_task("a", 2)), running.submit(_task("b", 1))]
    assert running.thread.call(threading.current_thread) is running.thread
    assert [task.done() for task in tasks] == [True, True]


@pytest.mark.parametrize("error", [ValueError("no"), WorkerError("no model there"), DeviceError("lost")])
def test_what_is_called_may_fail_without_an_end_of_the_thread(running: Running, error: Exception) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        running.thread.call(fail)
    assert raised.value is error
    assert running.thread.call(lambda: "and on") == "and on"
    assert running.fatal == []


def test_readers_are_served_when_woken_without_a_task(running: Running) -> None:
    for _ in range(3):
        served = threading.Event()
        running.serve = served.set
        running.thread.wake()
        assert served.wait(SECONDS)


def test_no_reader_is_missed_while_a_task_runs(running: Running) -> None:
    """What is woken during a step is served before the next one, also when it comes during the readers' turn."""
    waiting: list[int] = []
    served: list[int] = []

    def serve() -> None:
        if waiting:
            served.append(waiting.pop())
            if served[-1] < 5:
                waiting.append(served[-1] + 1)
                running.thread.wake()

    running.serve = serve
    waiting.append(0)
    assert running.submit(_task("a", 1)).result(SECONDS) == "a"
    done = threading.Event()

    def serve_and_note() -> None:
        serve()
        if len(served) == 6:
            done.set()

    running.serve = serve_and_note
    running.thread.wake()
    assert done.wait(SECONDS)
    assert served == list(range(6))


def test_tasks_run_in_order_and_not_at_once(running: Running) -> None:
    tasks = [running.submit(_task(name, 2)) for name in "abc"]
    assert [task.result(SECONDS) for task in tasks] == ["a", "b", "c"]
    assert [entry for entry in running.log if entry != "readers"] == ["a0", "a1", "b0", "b1", "c0", "c1"]


def test_a_stopped_task_is_closed_between_steps(running: Running) -> None:
    stop, closed, begun = threading.Event(), threading.Event(), threading.Event()
    future = running.submit(_endless(closed, begun), stop)
    assert begun.wait(SECONDS)
    stop.set()
    with pytest.raises(StoppedError):
        future.result(SECONDS)
    assert closed.is_set()
    assert running.submit(_task("next", 1)).result(SECONDS) == "next"
    assert running.fatal == []


def test_a_task_that_was_stopped_before_its_turn_never_begins(running: Running) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        running.submit(_task("a", 2), stop).result(SECONDS)
    assert "a0" not in running.log


def test_an_error_in_a_task_is_its_own(running: Running) -> None:
    def failing() -> Steps[str]:
        yield Step("fails")
        raise ValueError("out of luck")

    first, second = running.submit(failing()), running.submit(_task("next", 1))
    with pytest.raises(ValueError, match="out of luck"):
        first.result(SECONDS)
    assert second.result(SECONDS) == "next"
    assert running.fatal == []


def test_an_error_while_noting_a_step_is_the_tasks_own(running: Running) -> None:
    def on_step(_: Step) -> None:
        raise ValueError("cannot note it")

    closed: list[str] = []
    future = running.thread.submit(_task("a", 2, closed), on_step, threading.Event())
    with pytest.raises(ValueError, match="cannot note it"):
        future.result(SECONDS)
    assert running.submit(_task("next", 1)).result(SECONDS) == "next"
    assert closed == ["a"]


def test_an_error_that_ends_the_worker_fails_all_that_wait(running: Running) -> None:
    def fatal() -> Steps[str]:
        yield Step("fatal")
        raise WorkerError("a blob is damaged")

    futures = [running.submit(fatal()), running.submit(_task("b", 1)), running.submit(_task("c", 1))]
    for future in futures:
        with pytest.raises(WorkerError, match="a blob is damaged"):
            future.result(SECONDS)
    running.thread.join(SECONDS)
    assert [str(error) for error in running.fatal] == ["a blob is damaged"]


def test_an_error_in_the_readers_ends_the_worker_and_closes_the_task(running: Running) -> None:
    closed, begun = threading.Event(), threading.Event()
    future = running.submit(_endless(closed, begun))
    assert begun.wait(SECONDS)

    def fail() -> None:
        raise RuntimeError("the readers fail")

    running.serve = fail
    with pytest.raises(RuntimeError, match="the readers fail"):
        future.result(SECONDS)
    running.thread.join(SECONDS)
    assert closed.is_set()
    assert [str(error) for error in running.fatal] == ["the readers fail"]


POISONED = [
    torch.AcceleratorError("CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling cublasSgemm"),
]


@pytest.mark.parametrize("error", POISONED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["a step", "the readers"])
def test_an_error_of_cuda_ends_the_worker_wherever_it_comes(running: Running, error: Exception, where: str) -> None:
    """Every further call would fail too; only a new process has a new context."""
    closed: list[str] = []

    def fail() -> None:
        raise error

    def failing() -> Steps[str]:
        yield Step("fails")
        raise error

    def unclean() -> Steps[str]:
        try:
            yield from _task("b", 3, closed)
        finally:
            raise error

    first, second = running.submit(failing() if where == "a step" else _task("a", 9)), running.submit(unclean())
    if where == "the readers":
        running.serve = fail
        running.thread.wake()
    for future in (first, second):
        with pytest.raises(DeviceError, match="must be started again: CUDA error") as raised:
            future.result(SECONDS)
    running.thread.join(SECONDS)
    assert running.fatal == [raised.value]
    assert "\n" not in str(raised.value)


def test_exhausted_memory_is_the_tasks_own_error(running: Running) -> None:
    def failing() -> Steps[str]:
        yield Step("fails")
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    first, second = running.submit(failing()), running.submit(_task("next", 1))
    with pytest.raises(torch.OutOfMemoryError):
        first.result(SECONDS)
    assert second.result(SECONDS) == "next"
    assert running.fatal == []


def test_end_stops_what_runs_and_what_waits(running: Running) -> None:
    closed, begun = threading.Event(), threading.Event()
    first, second = running.submit(_endless(closed, begun)), running.submit(_task("b", 1))
    assert begun.wait(SECONDS)
    running.thread.end()
    for future in (first, second):
        with pytest.raises(StoppedError):
            future.result(SECONDS)
    running.thread.join(SECONDS)
    assert closed.is_set()
    assert "b0" not in running.log
    assert running.fatal == []


@pytest.mark.parametrize("how", ["ended", "failed"])
def test_nobody_waits_for_a_thread_that_has_ended(running: Running, how: str) -> None:
    def fail() -> None:
        raise RuntimeError("the readers fail")

    if how == "ended":
        running.thread.end()
    else:
        running.serve = fail
        running.thread.wake()
    running.thread.join(SECONDS)
    with pytest.raises(StoppedError if how == "ended" else RuntimeError):
        running.submit(_task("late", 1)).result(1)
