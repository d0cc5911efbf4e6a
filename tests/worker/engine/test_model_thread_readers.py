"""Readers and a task share the model thread's time, half and half; alone, each has all of it."""

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from worker.editing.progress import Step, Steps
from worker.engine import model_thread
from worker.engine.model_thread import ModelThread, StoppedError

SECONDS = 60.0


class Clock:
    """A time of its own, in which nothing takes any unless it says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Shared:
    """A model thread whose clock is the test's; `turns` and steps are noted in `log`.

    serve: what a readers' turn does, and whether there is more to do.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.log: list[str] = []
        self.serve: Callable[[], bool] = lambda: False
        self.fatal: list[BaseException] = []
        self.thread = ModelThread()
        self.thread.serve(self._serve, self.fatal.append)

    def _serve(self) -> bool:
        self.log.append("readers")
        return self.serve()

    def busy(self) -> bool:
        """Readers who always have more to do, a second each time."""
        self.clock.now += 1
        return True

    def task(self, seconds: Sequence[float]) -> Steps[str]:
        """A task whose steps take so long."""
        for number, taken in enumerate(seconds):
            self.clock.now += taken
            self.log.append(f"step {number}")
            yield Step("works")
        return "done"

    def submit(self, steps: Steps[str], stop: threading.Event | None = None) -> str:
        """What comes of a task."""
        return self.thread.submit(steps, lambda _: None, stop or threading.Event()).result(SECONDS)


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shared]:
    made = Shared()
    monkeypatch.setattr(model_thread, "time", made.clock)
    made.thread.start()
    yield made
    made.thread.end()
    made.thread.join(SECONDS)
    assert not made.thread.is_alive()
    assert made.fatal == []


@pytest.mark.parametrize("seconds", [[5] * 9, [1, 7, 3] * 4, [0, 2.5, 0, 4] * 4, [0.25] * 40, [0.1, 6, 0.1] * 5])
def test_a_task_and_busy_readers_have_half_of_the_time_each(shared: Shared, seconds: list[float]) -> None:
    """Whatever their steps take, neither is ever ahead of the other by more than a step."""
    shared.serve = shared.busy
    assert shared.submit(shared.task(seconds)) == "done"
    ahead, seen = 0.0, []
    for entry in shared.log[: shared.log.index(f"step {len(seconds) - 1}")]:
        ahead += 1 if entry == "readers" else -seconds[int(entry.removeprefix("step "))]
        seen.append(ahead)
    assert max(seen) <= 1 + 1e-9
    assert min(seen) >= -max(seconds) - 1e-9


def test_who_has_just_come_is_served_before_the_next_step(shared: Shared) -> None:
    """Though the task has had less of the time."""

    def serve() -> bool:
        shared.clock.now += 100
        return True

    def waking() -> Steps[str]:
        for number in range(3):
            shared.log.append(f"step {number}")
            shared.thread.wake()
            yield Step("works")
        return "done"

    shared.serve = serve
    assert shared.submit(waking()) == "done"
    assert shared.log[: shared.log.index("step 2")] == ["readers", "step 0", "readers", "step 1", "readers"]


def test_readers_with_nothing_more_to_do_let_the_task_go_on(shared: Shared) -> None:
    assert shared.submit(shared.task([9, 9, 9])) == "done"
    assert shared.log == ["readers", "step 0", "readers", "step 1", "readers", "step 2", "readers"]


def test_without_a_task_readers_go_on_until_nothing_is_left(shared: Shared) -> None:
    left, done = [40], threading.Event()

    def serve() -> bool:
        left[0] -= 1
        if left[0] == 0:
            done.set()
        return left[0] > 0

    shared.serve = serve
    shared.thread.wake()
    assert done.wait(SECONDS)
    shared.serve = lambda: False
    assert shared.submit(shared.task([])) == "done"
    assert left == [0]
    assert shared.log == ["readers"] * 41, "once more for the task"


def test_a_task_gets_its_turn_though_readers_are_busy(shared: Shared) -> None:
    begun = threading.Event()

    def serve() -> bool:
        begun.set()
        return shared.busy()

    shared.serve = serve
    shared.thread.wake()
    assert begun.wait(SECONDS)
    assert shared.submit(shared.task([1, 1])) == "done"


def test_readers_who_had_more_to_do_go_on_after_the_task(shared: Shared) -> None:
    """Nobody has to wake the thread again."""
    shared.serve = shared.busy
    assert shared.submit(shared.task([1])) == "done"
    again = threading.Event()

    def serve() -> bool:
        again.set()
        return False

    shared.serve = serve
    assert again.wait(SECONDS)


def test_a_task_is_stopped_though_readers_are_busy(shared: Shared) -> None:
    stop = threading.Event()
    shared.serve = shared.busy

    def endless() -> Steps[str]:
        while True:
            yield Step("on and on")
            stop.set()

    with pytest.raises(StoppedError):
        shared.submit(endless(), stop)


def test_the_thread_ends_though_readers_are_busy(shared: Shared) -> None:
    begun = threading.Event()

    def serve() -> bool:
        begun.set()
        return True

    shared.serve = serve
    shared.thread.wake()
    assert begun.wait(SECONDS)
    shared.thread.end()
    shared.thread.join(SECONDS)
    assert not shared.thread.is_alive()


def test_the_thread_ends_though_a_task_and_readers_are_busy(shared: Shared) -> None:
    """Also in a long turn of theirs."""
    begun = threading.Event()

    def serve() -> bool:
        if "step 0" in shared.log:
            begun.set()
        return True

    shared.serve = serve
    future = shared.thread.submit(shared.task([1e9, 1e9]), lambda _: None, threading.Event())
    assert begun.wait(SECONDS)
    shared.thread.end()
    with pytest.raises(StoppedError):
        future.result(SECONDS)
    assert "step 1" not in shared.log
