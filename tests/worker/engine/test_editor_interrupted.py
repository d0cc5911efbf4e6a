"""A batch that is cancelled or fails at any point leaves the model as it was found, and can be computed again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from redis import Redis

from service.contracts.edits import EditStatus
from service.keys import Keys
from tests.driving import finish, finish_noting
from tests.families import tiny_model
from tests.worker.engine.desk import BATCH, Desk, committed
from tests.worker.engine.kit import Stand, bits, overridden, random_delta, same_bits, surroundings
from worker.editing.progress import Step

HPARAMS: dict[str, Any] = {"mom2_adjustment": True, "mom2_n_tokens": 1200}
METHODS = ["rome", "memit"]
DTYPES = [None, torch.bfloat16]
"""That values are computed in."""


@pytest.fixture
def desk(open_desk: Callable[..., Desk]) -> Desk:
    """On a head that has been edited before."""
    desk = open_desk()
    desk.stand.commit(random_delta(desk.stand.loaded, 1, 3, scale=0.1))
    return desk


class Before:
    """The desk as it is found; `holds` asserts that it is so again."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._seen = self._look()
        self._bits = bits(desk.stand.loaded)

    def _look(self) -> Any:
        stand = self._desk.stand
        return surroundings(stand.loaded), stand.state(), sorted(stand.blobs_folder.iterdir()), torch.is_grad_enabled()

    def holds(self) -> None:
        assert self._look() == self._seen
        assert same_bits(bits(self._desk.stand.loaded), self._bits)


def _undisturbed(method: str, dtype: torch.dtype | None, redis: Redis, folder: Path) -> tuple[Desk, str, list[Step]]:
    """A desk to which nothing else has ever happened; the checksum and the steps of the edit there."""
    desk = Desk(Stand(redis, Keys("another"), tiny_model("llama"), folder), folder)
    desk.stand.commit(random_delta(desk.stand.loaded, 1, 3, scale=0.1))
    desk.editor = desk.editor_of(compute_dtype=dtype)
    revision, steps = finish_noting(desk.begin(method=method, facts=BATCH, hparams=HPARAMS)[1])
    return desk, committed(revision).checksum, steps


def _places(steps: list[Step]) -> list[int]:
    """The first and the last step of each phase."""
    phases = [step.phase for step in steps]
    backwards = phases[::-1]
    return sorted(
        {phases.index(name) for name in phases} | {len(phases) - 1 - backwards.index(name) for name in phases}
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_a_batch_that_is_cancelled_leaves_nothing(
    desk: Desk, redis: Redis, tmp_path: Path, method: str, dtype: torch.dtype | None
) -> None:
    _, checksum, whole = _undisturbed(method, dtype, redis, tmp_path / "another")
    desk.editor = desk.editor_of(compute_dtype=dtype)
    before = Before(desk)
    for place in _places(whole):
        edit, steps = desk.begin(method=method, facts=BATCH, hparams=HPARAMS)
        for _, step in zip(range(place + 1), steps, strict=False):
            assert overridden(desk.stand.loaded) == []
            if step.phase == "commit":  # nearer than the first time, since templates and statistics stay
                break
        steps.close()
        before.holds()
        assert desk.stand.edits.get(edit.id).status is EditStatus.RUNNING
    _, steps = desk.begin(method=method, facts=BATCH, hparams=HPARAMS)
    assert committed(finish(steps)).checksum == checksum


@contextmanager
def _failing(desk: Desk, at: int | None) -> Iterator[list[int]]:
    """The model fails when its first block is about to run for the `at`-th time; what is given counts the times."""
    times = [0]

    def fail(*_: Any) -> None:
        times[0] += 1
        if times[0] == at:
            raise RuntimeError("out of luck")

    handle = desk.stand.loaded.module(desk.stand.loaded.family.layer, 0).register_forward_pre_hook(fail)
    try:
        yield times
    finally:
        handle.remove()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_a_batch_that_fails_leaves_nothing(
    desk: Desk, redis: Redis, tmp_path: Path, method: str, dtype: torch.dtype | None
) -> None:
    """Whether sampling, taking statistics, optimising, solving, measuring or generating."""
    another, checksum, _ = _undisturbed(method, dtype, redis, tmp_path / "another")
    another.stand.history.rollback(1)
    with _failing(another, None) as times:  # with templates and statistics at hand, as here after some failures
        finish(another.begin(method=method, facts=BATCH, hparams=HPARAMS)[1])
    desk.editor = desk.editor_of(compute_dtype=dtype)
    before = Before(desk)
    for at in (*range(1, times[0], times[0] // 8), times[0]):
        edit, steps = desk.begin(method=method, facts=BATCH, hparams=HPARAMS)
        with _failing(desk, at), pytest.raises(RuntimeError, match="out of luck"):
            finish(steps)
        before.holds()
        assert desk.stand.edits.get(edit.id).status is EditStatus.RUNNING
    assert committed(finish(desk.begin(method=method, facts=BATCH, hparams=HPARAMS)[1])).checksum == checksum
