"""What other threads can see of the model thread: how long its step takes, and for whom it works."""

import math
import threading

from service.origin import ORIGIN, Origin
from worker.editing.progress import Step, Steps
from worker.engine.model_thread import ModelThread

SECONDS = 60.0


def test_how_long_a_step_has_taken_can_be_asked_while_it_hangs() -> None:
    thread, begun, release = ModelThread(), threading.Event(), threading.Event()

    def hangs() -> Steps[None]:
        yield Step("first")
        begun.set()
        assert release.wait(SECONDS)

    thread.start()
    assert thread.step_seconds == 0
    future = thread.submit(hangs(), lambda _: None, threading.Event())
    assert begun.wait(SECONDS)
    earlier = thread.step_seconds
    while thread.step_seconds <= earlier:
        pass
    release.set()
    future.result(SECONDS)
    thread.call(lambda: None)
    while thread.step_seconds:
        pass
    thread.end()
    thread.join(SECONDS)
    assert math.isinf(thread.step_seconds)


def test_a_reader_that_hangs_is_seen_too() -> None:
    thread, begun, release = ModelThread(), threading.Event(), threading.Event()

    def readers() -> bool:
        begun.set()
        return not release.wait(SECONDS)

    thread.serve(readers, lambda _: None)
    thread.start()
    thread.wake()
    assert begun.wait(SECONDS)
    assert thread.step_seconds > 0
    release.set()
    thread.end()
    thread.join(SECONDS)


def test_each_task_is_worked_on_in_the_name_of_whoever_submitted_it() -> None:
    seen: list[str] = []

    def tells() -> Steps[None]:
        seen.append(ORIGIN.get().request_id)
        yield Step("between")
        seen.append(ORIGIN.get().request_id)

    thread = ModelThread()
    thread.start()
    futures = []
    for name in ("one", "two"):
        token = ORIGIN.set(Origin(name))
        futures.append(thread.submit(tells(), lambda _: None, threading.Event()))
        ORIGIN.reset(token)
    for future in futures:
        future.result(SECONDS)
    thread.end()
    thread.join(SECONDS)
    assert seen == ["one", "one", "two", "two"]
