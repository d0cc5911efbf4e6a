"""What a long computation yields after each small step, and how such computations are driven."""

import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Step:
    """One step done: of which phase, the how manieth of how many, what the optimiser saw, what to beware of.

    seconds_left: until the whole computation ends, where it can tell.
    """

    phase: str
    step: int = 0
    steps: int = 0
    loss: float | None = None
    target_probability: float | None = None
    warning: str | None = None
    seconds_left: float | None = None


Steps = Generator[Step, None, Result]
"""A computation that yields between its steps and returns a result; closing it leaves nothing behind."""


def within(context: Callable[[], AbstractContextManager[None]], steps: Steps[Result]) -> Steps[Result]:
    """Drive `steps` with `context` in force during each step, and not between them."""
    try:
        while True:
            with context():
                try:
                    step = next(steps)
                except StopIteration as end:
                    result: Result = end.value
                    return result
            yield step
    finally:
        steps.close()


def timed(steps: Steps[Result], timings: dict[str, float], last: str) -> Steps[Result]:
    """Drive `steps`, adding the seconds that each took to its phase; what follows the last step counts as `last`."""
    try:
        while True:
            begin = time.perf_counter()
            try:
                step = next(steps)
            except StopIteration as end:
                timings[last] = timings.get(last, 0.0) + time.perf_counter() - begin
                result: Result = end.value
                return result
            timings[step.phase] = timings.get(step.phase, 0.0) + time.perf_counter() - begin
            yield step
    finally:
        steps.close()


def mapped(steps: Steps[Result], each: Callable[[Step], Step]) -> Steps[Result]:
    """Drive `steps`, yielding what `each` makes of every step."""
    try:
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                result: Result = end.value
                return result
            yield each(step)
    finally:
        steps.close()


def numbered(steps: Steps[Result], done: int, of: int) -> Steps[Result]:
    """Drive `steps`, one of `of` computations alike of which `done` are over, counting its steps among those of all."""
    return mapped(steps, lambda step: replace(step, step=done * step.steps + step.step, steps=of * step.steps))
