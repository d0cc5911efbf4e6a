"""What an edit must reach: on the edited weights, before it is committed and before anybody is served it."""

from typing import Any

import pytest
import torch

from service.contracts.edits import EditStatus, Requirements
from service.contracts.model import Ceilings
from service.contracts.scores import Drift, Summaries, Summary
from service.errors import ProblemError
from tests.driving import finish
from tests.service.stand_in import outcome
from tests.worker.engine.desk import DIRECT, Desk
from tests.worker.engine.kit import random_delta
from worker.engine.verdict import Uncommitted, uncommitted

SUMMARY = Summary(EA=0.5, PA=0.25, rewrite_acc=0.5, neighborhood_acc=0.9)
MEASURED = outcome().model_copy(
    update={
        "summary": Summaries(before=SUMMARY, after=SUMMARY),
        "drift": Drift(norms={1: 0.01}, perplexity_ratio=1.04, kl=0.01),
    }
)


@pytest.mark.parametrize(
    ("require", "missed"),
    [
        ({"efficacy": 0.5, "generality": 0.25, "locality": 0.9, "max_perplexity_ratio": 1.04}, []),
        ({"efficacy": True}, ["efficacy asks for EA of at least 1, and it is 0.5"]),
        ({"generality": 0.3}, ["generality asks for PA of at least 0.3, and it is 0.25"]),
        ({"locality": 0.95}, ["locality asks for neighborhood_acc of at least 0.95, and it is 0.9"]),
        ({"max_perplexity_ratio": 1.03}, ["max_perplexity_ratio is 1.03, and the ratio is 1.04"]),
        ({"efficacy": 0.6, "locality": 1}, ["efficacy asks", "locality asks"]),
    ],
)
def test_every_missed_requirement_is_named(require: dict[str, Any], missed: list[str]) -> None:
    end = uncommitted(Requirements.model_validate(require), MEASURED, dry_run=False)
    if not missed:
        assert end is None
        return
    assert end is not None
    assert end.problem is not None
    assert (end.status, end.outcome) == (EditStatus.REJECTED, MEASURED)
    assert all(part in end.problem.detail for part in missed)
    assert end.problem.detail.count(";") == len(missed) - 1


def test_a_perplexity_that_is_no_number_is_missed() -> None:
    drift = Drift(norms={1: 1.0}, perplexity_ratio=float("nan"), kl=0.0)
    broken = MEASURED.model_copy(update={"drift": drift})
    assert uncommitted(Requirements(max_perplexity_ratio=1e6), broken, dry_run=False) is not None


def test_what_misses_its_requirements_is_never_served(desk: Desk) -> None:
    desk.stand.commit(random_delta(desk.stand.loaded, 2))
    before = desk.stand.state()
    blobs = sorted(desk.stand.blobs_folder.rglob("*"))
    edit, steps = desk.begin(require={"efficacy": True})
    end = finish(steps)
    assert isinstance(end, Uncommitted)
    assert end.status is EditStatus.REJECTED
    assert end.outcome.summary.after.EA == 0, "a random model does not take this fact in six steps"
    assert end.outcome.drift is not None
    assert desk.stand.state() == before
    assert sorted(desk.stand.blobs_folder.rglob("*")) == blobs
    assert desk.stand.edits.get(edit.id).status is EditStatus.RUNNING, "its job ends it"


def test_what_meets_its_requirements_is_committed(desk: Desk) -> None:
    wanted = {"efficacy": True, "max_perplexity_ratio": 1e6}
    edit = desk.run(facts=DIRECT[:1], hparams={"v_num_grad_steps": 30}, require=wanted)
    assert (edit.status, edit.revision) == (EditStatus.APPLIED, 1)


def test_a_dry_run_measures_and_commits_nothing(desk: Desk) -> None:
    before = desk.stand.state()
    _, steps = desk.begin(dry_run=True)
    end = finish(steps)
    assert isinstance(end, Uncommitted)
    assert (end.status, end.problem) == (EditStatus.MEASURED, None)
    assert desk.stand.state() == before
    applied = desk.run()
    assert applied.outcome is not None
    assert end.outcome.summary == applied.outcome.summary
    assert end.outcome.drift == applied.outcome.drift


def test_every_revision_records_its_drift(desk: Desk) -> None:
    stand = desk.stand
    edits = [desk.run(), desk.run(subject="Messi")]
    stand.history.rollback(1)
    stand.history.revert(edits[0].id)
    first, second, back, base = (stand.ledger.revision(number).drift for number in (1, 2, 3, 4))
    assert first is not None
    assert second is not None
    assert set(first.norms) == {1}
    weight, pristine = stand.history.weights_at(1)[stand.resident.name_of(1)], stand.resident.base_of_layer(1)
    assert first.norms[1] == pytest.approx(float((weight - pristine).norm() / pristine.norm()), rel=1e-5)
    assert second.norms[1] != first.norms[1]
    assert back == first
    assert base == Drift(norms={}, perplexity_ratio=1.0, kl=0.0)


@pytest.mark.parametrize(("name", "field"), [("perplexity_ratio", "perplexity_ratio"), ("kl", "kl"), ("norm", "norms")])
def test_beyond_a_ceiling_nothing_more_is_edited(desk: Desk, name: str, field: str) -> None:
    edit = desk.run()
    assert edit.outcome is not None
    assert edit.outcome.drift is not None
    found = getattr(edit.outcome.drift, field)
    value = max(found.values()) if isinstance(found, dict) else found
    desk.editor = desk.editor_of(ceilings=Ceilings(**{name: value * 1.01}))
    desk.run(dry_run=True)
    desk.editor = desk.editor_of(ceilings=Ceilings(**{name: value * 0.99}))
    error = desk.refused()
    assert isinstance(error, ProblemError)
    assert error.problem.type.endswith(":drift-ceiling")
    assert name in error.problem.detail
    assert "roll back" in error.problem.detail
    desk.stand.history.rollback(0)
    assert desk.run().status is EditStatus.APPLIED


def test_drift_leaves_the_model_as_it_was(desk: Desk) -> None:
    before = desk.stand.state()
    state = desk.stand.history.state.plus(random_delta(desk.stand.loaded, 1, 2))
    drift = desk.stand.history.measured_drift(state)
    assert set(drift.norms) == {1, 2}
    assert drift.kl > 0
    assert drift.perplexity_ratio != 1
    assert desk.stand.state() == before
    assert desk.stand.history.measured_drift(state) == drift
    assert torch.is_grad_enabled()
