"""Batches that are not written as they were asked for: the fact at fault is named, and nothing is done by halves."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from service.errors import ProblemError
from tests.driving import finish
from tests.worker.engine.desk import BATCH, Desk, committed
from tests.worker.engine.kit import live_checksum, random_delta
from worker.editing.progress import Step
from worker.errors import EditError

Open = Callable[..., Desk]
LONG = {"prompt": "Paris " * 150 + "Messi plays", "subject": "Messi", "target_new": "football"}


@pytest.mark.parametrize("method", ["rome", "memit"])
@pytest.mark.parametrize("at", [0, 2])
def test_the_fact_that_cannot_be_written_is_named(desk: Desk, method: str, at: int) -> None:
    """And with it none of the others is written."""
    facts = [*BATCH[:at], LONG, *BATCH[at:]]
    error = desk.refused(method=method, facts=facts)
    assert isinstance(error, EditError)
    assert (error.name, error.field) == ("too-long", f"facts[{at}].prompt")
    assert str(error).startswith(f"facts[{at}].prompt: needs ")
    for body, field in (({"facts": [LONG]}, "facts[0].prompt"), (LONG, "prompt")):
        error = desk.refused(method=method, **body)
        assert isinstance(error, EditError)
        assert error.field == field


@pytest.mark.parametrize("method", ["rome", "memit"])
@pytest.mark.parametrize("facts", [BATCH, BATCH[:1]], ids=len)
def test_what_the_hyperparameters_cause_is_no_facts_fault(desk: Desk, method: str, facts: list[Any]) -> None:
    error = desk.refused(method=method, facts=facts, hparams={"layers": [9], "mom2_adjustment": True})
    assert isinstance(error, EditError)
    assert error.field == "hparams.layers"


@pytest.mark.parametrize("method", ["rome", "memit"])
def test_a_batch_that_diverges_is_refused_as_a_whole(open_desk: Open, method: str) -> None:
    desk = open_desk(dtype=torch.float16)
    wild = {"v_lr": 1e7, "clamp_norm_factor": 1e9, "v_num_grad_steps": 2}
    error = desk.refused(method=method, facts=BATCH, hparams=wild)
    assert isinstance(error, ProblemError)
    assert error.problem.type.endswith("edit-diverged")


@pytest.mark.parametrize(
    ("method", "phase"),
    [
        *(("rome", phase) for phase in ("key", "value", "measure", "commit")),
        *(("memit", phase) for phase in ("key", "value", "keys", "update", "measure", "commit")),
    ],
)
def test_a_head_that_moves_in_mid_batch_is_edited_instead(desk: Desk, method: str, phase: str) -> None:
    desk.stand.commit(random_delta(desk.stand.loaded, 2))
    edit, steps = desk.begin(method=method, facts=BATCH)
    seen = list[Step]()
    for step in steps:
        seen.append(step)
        if step.phase == phase and step.step == step.steps:
            break
    moved = desk.stand.history.rollback(0)
    begun = next(step for step in seen if step.phase not in ("templates", "statistics"))
    again = next(steps)
    assert (again.phase, again.step) == (begun.phase, begun.step), "not one step more on the old head"
    revision = committed(finish(steps))
    assert (revision.revision, revision.parent) == (moved.revision + 1, moved.revision)
    assert revision.active == (edit.id,)
    assert revision.checksum == live_checksum(desk.stand.loaded)
    desk.stand.history.rollback(0)
    alone = desk.run(method=method, facts=BATCH)
    assert desk.stand.ledger.revision(alone.revision or 0).checksum == revision.checksum
