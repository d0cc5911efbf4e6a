"""Computations that yield: a context holds during steps only, time is counted by phase, a close reaches the bottom."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.driving import finish, finish_noting
from worker.editing.progress import Step, Steps, numbered, timed, within


class Noted:
    """A context that notes when it is in force."""

    def __init__(self) -> None:
        self.inside = False
        self.entered = 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self.inside = True
        self.entered += 1
        try:
            yield
        finally:
            self.inside = False


def _computing(context: Noted, closed: list[bool], fail_at: int | None = None) -> Steps[str]:
    try:
        for step in range(3):
            assert context.inside
            if step == fail_at:
                raise ValueError("out of luck")
            yield Step("phase", step)
        assert context.inside
    finally:
        closed.append(True)
    return "result"


def test_a_context_is_in_force_during_steps_and_not_between() -> None:
    context, closed = Noted(), list[bool]()
    steps = within(context, _computing(context, closed))
    for expected in range(3):
        assert next(steps).step == expected
        assert not context.inside
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value == "result"
    assert (context.inside, context.entered, closed) == (False, 4, [True])


def test_closing_reaches_the_computation() -> None:
    context, closed = Noted(), list[bool]()
    timings: dict[str, float] = {}
    steps = timed(within(context, _computing(context, closed)), timings, "last")
    next(steps)
    steps.close()
    assert closed == [True]
    assert not context.inside


def test_an_error_passes_through_and_leaves_the_context() -> None:
    context, closed = Noted(), list[bool]()
    steps = within(context, _computing(context, closed, fail_at=1))
    with pytest.raises(ValueError, match="out of luck"):
        finish(steps)
    assert closed == [True]
    assert not context.inside


def test_an_error_of_the_context_ends_the_computation() -> None:
    closed: list[bool] = []
    calls: list[int] = []

    @contextmanager
    def refusing() -> Iterator[None]:
        calls.append(1)
        if len(calls) == 2:
            raise ValueError("no longer")
        yield

    context = Noted()
    context.inside = True
    with pytest.raises(ValueError, match="no longer"):
        finish(within(refusing, _computing(context, closed)))
    assert closed == [True]


def test_seconds_are_counted_by_phase_and_without_the_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("worker.editing.progress.time.perf_counter", lambda: now[0])

    def computing() -> Steps[int]:
        for phase in ("key", "value", "value"):
            now[0] += 0.25
            yield Step(phase)
        now[0] += 0.5
        return 7

    timings: dict[str, float] = {"value": 1.0}
    steps = timed(computing(), timings, "update")
    for expected in ("key", "value", "value"):
        assert next(steps).phase == expected
        now[0] += 8.0
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value == 7
    assert timings == {"key": 0.25, "value": 1.5, "update": 0.5}


def test_computations_alike_are_counted_together() -> None:
    """Two of them, of three steps each; what has no count has none afterwards."""

    def computing(closed: list[bool]) -> Steps[str]:
        try:
            for step in (1, 2, 3):
                yield Step("value", step, 3, loss=0.5)
            yield Step("update")
        finally:
            closed.append(True)
        return "result"

    closed = list[bool]()
    told: list[Step] = []
    for done in range(2):
        result, steps = finish_noting(numbered(computing(closed), done, 2))
        assert result == "result"
        told += steps
    assert [(step.step, step.steps) for step in told if step.phase == "value"] == [(at, 6) for at in range(1, 7)]
    assert [(step.step, step.steps) for step in told if step.phase == "update"] == [(0, 0), (0, 0)]
    assert all(step.loss == 0.5 for step in told if step.phase == "value")
    left = numbered(computing(closed), 0, 2)
    next(left)
    left.close()
    assert closed == [True] * 3


def test_driving_notes_every_step() -> None:
    context = Noted()
    result, steps = finish_noting(within(context, _computing(context, [])))
    assert (result, [step.step for step in steps]) == ("result", [0, 1, 2])
