"""Lets the worker's stand-in act on every edit that comes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.service.stand_in import StandIn


@contextmanager
def acting(worker: StandIn, act: Callable[[str], Any]) -> Iterator[None]:
    """While entered, `act` is called with the id of each edit that waits, in a thread."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            for edit_id in worker.edits.pending():
                act(edit_id)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
