"""Exports that nobody waits for any longer end as soon as they can, and the next one waits for that."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from typing import Any

import pytest

from tests.worker.engine.kit import random_delta
from tests.worker.export.desk import SECONDS, ExportDesk
from worker.export import adapter as adapting
from worker.export.factors import Factors, factors_of

OpenDesk = Callable[..., ExportDesk]


class Slow:
    """Factors that take until they are let go; began: of how many layers they were asked; at_once: most at a time."""

    def __init__(self) -> None:
        self.began = self.at_once = self._running = 0
        self.release = threading.Event()

    def __call__(self, changes: Any, most: int) -> Factors:
        self.began += 1
        self._running += 1
        self.at_once = max(self.at_once, self._running)
        assert self.release.wait(SECONDS)
        self._running -= 1
        return factors_of(changes, most)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    slow = Slow()
    monkeypatch.setattr(adapting, "factors_of", slow)
    return slow


def begun(desk: ExportDesk, slow: Slow) -> None:
    """Steps until a computation is under way, and waits for none."""
    deadline = time.monotonic() + SECONDS
    while not slow.began:
        assert time.monotonic() < deadline
        desk.exporter.step()
        time.sleep(0.001)


def test_what_was_abandoned_does_not_pile_up(open_desk: OpenDesk, slow: Slow) -> None:
    desk = open_desk()
    desk.stand.commit(random_delta(desk.stand.loaded, 1, 2))
    first = desk.take_up(export="adapter", revision=1)
    begun(desk, slow)
    desk.exporter.dismiss({first})
    for _ in range(9):
        name = desk.take_up(export="adapter", revision=1)
        for _ in range(20):  # as often as the model thread may be woken by others
            desk.exporter.step()
            time.sleep(0.001)
        desk.exporter.dismiss({name})
    assert (slow.began, slow.at_once) == (1, 1)
    stays = desk.take_up(export="adapter", revision=1)
    assert not desk.exporter.step()
    slow.release.set()
    desk.finish()
    assert (slow.began, slow.at_once) == (1 + 2, 1), "of whoever left, the second layer was not begun"
    assert [name for name, answer in desk.heard.items() if answer is not None] == [stays]


def test_the_fidelity_of_what_was_abandoned_is_not_computed(
    open_desk: OpenDesk, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = open_desk()
    desk.stand.commit(random_delta(desk.stand.loaded, 1))
    measured: list[Factors] = []
    monkeypatch.setattr(Factors, "fidelity", lambda self, *_: measured.append(self))
    name = desk.take_up(export="adapter", revision=1)
    begun(desk, slow)
    awaited = desk.exporter._awaited
    assert awaited is not None
    desk.exporter.dismiss({name})
    slow.release.set()
    wait([awaited], SECONDS)
    assert measured == []
