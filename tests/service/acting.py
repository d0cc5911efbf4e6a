"""Lets the worker's stand-in act on every job that comes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from service.jobs import Jobs
from tests.service.stand_in import StandIn


@contextmanager
def acting(worker: StandIn, act: Callable[[str], Any], jobs: Jobs[Any, Any] | None = None) -> Iterator[None]:
    """While entered, `act` is called with the id of each edit, or other job, that waits, in a thread."""
    waiting = worker.edits if jobs is None else jobs
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            for job_id in waiting.pending():
                act(job_id)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
