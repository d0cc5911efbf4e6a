"""Workers that end are started again as long as that is of use, ever more rarely, and it is said."""

import signal
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.children import Child
from service.claims import UpError
from service.crew import AGAIN, LONGEST_SECONDS, MOST_ENDS, WINDOW_SECONDS, Backoff, Crew
from worker.errors import DeviceError, LeaseLostError

SECONDS = 60.0
ENDS = """import sys; sys.exit({code})"""
LIVES = """import time; time.sleep(600)"""


class Watched:
    """A crew of real processes, whose clock the test sets. `code`: with what those that are started next end."""

    def __init__(self, count: int, code: int | None = None) -> None:
        self.time = 0.0
        self.code = code
        self.said: list[str] = []
        self.started: list[Child] = []
        self.crew = Crew(count, self._start, self.said.append, lambda: self.time)
        self.crew.look()

    def _start(self, name: str) -> Child:
        program = LIVES if self.code is None else ENDS.format(code=self.code)
        self.started.append(Child(name, [sys.executable, "-I", "-S", "-c", program]))
        return self.started[-1]

    def look_after(self, seconds: float) -> None:
        """Look once all that are about to end have ended, so much later."""
        self.time += seconds
        if self.code is not None:
            for child in self.crew.children:
                child.wait(SECONDS)
        self.crew.look()

    def kill(self, child: Child) -> None:
        child.wait(-1)

    def close(self) -> None:
        for child in self.started:
            child.wait(-1)


@pytest.fixture
def watch() -> Iterator[Callable[..., Watched]]:
    """Starts crews; what is left of them is killed when the test ends."""
    made: list[Watched] = []

    def start(count: int, code: int | None = None) -> Watched:
        made.append(Watched(count, code))
        return made[-1]

    yield start
    for watched in made:
        watched.close()


def test_the_codes_are_the_workers() -> None:
    assert set(AGAIN) == {LeaseLostError.exit_code, DeviceError.exit_code}


@pytest.mark.parametrize("code", [6, 8])
def test_the_only_worker_is_started_again_until_it_has_ended_too_often(
    watch: Callable[..., Watched], code: int
) -> None:
    watched = watch(1, code)
    for pause in (1, 2, 4, 8):
        watched.look_after(0)
        assert f"The worker ended (exit code {code}: " in watched.said[-1]
        assert watched.said[-1].endswith(f"; it is started again in {pause} s.")
        begun = len(watched.started)
        watched.look_after(pause - 0.1)
        assert len(watched.started) == begun
        watched.look_after(0.1)
        assert len(watched.started) == begun + 1
    with pytest.raises(UpError, match=f"The worker ended 5 times within 5 minutes, at last with exit code {code}"):
        watched.look_after(0)


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 5, 7])
def test_what_no_new_process_can_mend_ends_everything(watch: Callable[..., Watched], code: int) -> None:
    watched = watch(1, code)
    with pytest.raises(UpError, match=rf"The worker ended by itself \(exit code {code}\), so the others were stopped"):
        watched.look_after(0)
    assert watched.said == []


def test_the_only_worker_that_is_killed_ends_everything(watch: Callable[..., Watched]) -> None:
    watched = watch(1)
    watched.kill(watched.started[0])
    with pytest.raises(UpError, match=r"The worker ended by itself \(killed by SIGKILL\)"):
        watched.look_after(0)


def test_one_of_several_is_replaced_while_another_lives(watch: Callable[..., Watched]) -> None:
    watched = watch(2)
    first, second = watched.started
    watched.kill(first)
    watched.look_after(0)
    assert watched.said == ["Worker 1 ended (killed by SIGKILL); it is started again in 1 s."]
    assert list(watched.crew.children) == [second]
    watched.look_after(1)
    assert [child.name for child in watched.started] == ["worker 1", "worker 2", "worker 1"]
    for child in watched.crew.children:
        assert child.ended is None
    watched.kill(second)
    watched.look_after(0)
    assert "Worker 2 ended" in watched.said[-1]
    watched.kill(watched.started[2])
    with pytest.raises(UpError, match="Worker 1 ended by itself"):
        watched.look_after(0)


def test_others_go_on_without_one_that_ends_too_often(watch: Callable[..., Watched]) -> None:
    watched = watch(3)
    for _ in range(MOST_ENDS):
        watched.kill(next(child for child in watched.crew.children if child.name == "worker 2"))
        watched.look_after(0)
        watched.look_after(LONGEST_SECONDS)
    assert watched.said[-1] == (
        "Worker 2 ended (killed by SIGKILL), too often to be started again; worker 1 and worker 3 go on without it."
    )
    watched.look_after(10 * WINDOW_SECONDS)
    assert [child.name for child in watched.crew.children] == ["worker 1", "worker 3"]


def test_all_are_started_and_ended_together(watch: Callable[..., Watched]) -> None:
    watched = watch(4)
    assert [child.name for child in watched.crew.children] == [f"worker {number}" for number in range(1, 5)]
    for child in watched.crew.children:
        child.interrupt()
    deadline = time.monotonic() + SECONDS
    while any(child.ended is None for child in watched.crew.children):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert {child.exit_code for child in watched.crew.children} == {-signal.SIGTERM}


@given(st.lists(st.floats(min_value=0, max_value=1000), min_size=1, max_size=30))
def test_pauses_grow_and_no_window_has_too_many_starts(lives: list[float]) -> None:
    """Whatever the lengths of a worker's lives."""
    now, starts, pauses = [0.0], [0.0], [0.0]
    backoff = Backoff(lambda: now[0])
    for life in lives:
        now[0] += life
        pause = backoff.pause()
        if pause is None:
            break
        assert pause == 1 or 1 < pause <= min(LONGEST_SECONDS, 2 * pauses[-1])
        assert life < WINDOW_SECONDS or pause == 1
        now[0] += pause
        pauses.append(pause)
        starts.append(now[0])
    for start in starts:
        assert sum(start <= other < start + WINDOW_SECONDS for other in starts) <= MOST_ENDS


def test_rare_ends_are_never_too_many() -> None:
    now = [0.0]
    backoff = Backoff(lambda: now[0])
    pauses = []
    for _ in range(10):
        now[0] += 80
        pauses.append(backoff.pause())
    assert pauses == [1, 2, 4, 8, 16, *[LONGEST_SECONDS] * 5]
