"""One edit from request to revision, on a real Redis: what it says of itself is so, and it is all or nothing."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from service.contracts.edits import EditStatus
from service.errors import ProblemError
from service.ledger import EditEndedError
from tests.driving import finish, finish_noting
from tests.worker.engine.desk import DEFAULTS, FACT, Desk, committed
from tests.worker.engine.kit import bits, live_checksum, low_rank, overridden, random_delta, same_bits, wanted
from worker.editing.context import EditContext, FactLike
from worker.editing.delta import WeightDelta
from worker.editing.method import discover
from worker.editing.progress import Step, Steps
from worker.editing.rank_one import RankOneHparams
from worker.engine.generation import decode
from worker.engine.verdict import SHOWN_TOKENS
from worker.errors import EditError

JUDGED = {"target_true": "football", "paraphrases": ["The sport of Lionel Messi is"], "neighborhood": ["The city of"]}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_edit_says_what_it_did(open_desk: Callable[..., Desk], family: str) -> None:
    desk = open_desk(family)
    edit = desk.run(**JUDGED, hparams={"v_num_grad_steps": 9, "v_lr": 0.4})
    resident, history = desk.stand.resident, desk.stand.history
    assert (edit.status, edit.revision) == (EditStatus.APPLIED, 1)
    assert desk.stand.ledger.entries()[1].checksum == live_checksum(desk.stand.loaded)
    outcome = edit.outcome
    assert outcome is not None
    assert outcome.metrics is not None
    assert outcome.hparams["v_num_grad_steps"] == 9
    assert outcome.hparams["v_lr"] == 0.4
    assert outcome.hparams["layers"] == [1]
    assert outcome.metrics.after.rewrite.target_new.nll < outcome.metrics.before.rewrite.target_new.nll
    assert len(outcome.metrics.after.paraphrases) == len(outcome.metrics.after.neighborhood) == 1
    rows = [wanted(FACT["prompt"], revision, history.weights_at(revision), SHOWN_TOKENS) for revision in (0, 1)]
    before, after = decode(resident.loaded, resident.view, rows)
    (shown,) = outcome.generations
    assert (shown.prompt, shown.before, shown.after) == (FACT["prompt"], before.text, after.text)
    assert {"templates", "key", "value", "update", "measure", "generate"} <= outcome.timings.keys()
    assert all(seconds >= 0 for seconds in outcome.timings.values())
    assert overridden(desk.stand.loaded) == []


def test_steps_are_small_and_named(desk: Desk) -> None:
    _, steps = desk.begin()
    _, seen = finish_noting(steps)
    phases = list(dict.fromkeys(step.phase for step in seen))
    assert phases == ["templates", "key", "value", "measure", "drift", "commit"]
    assert sum(step.phase == "value" for step in seen) == 6


def test_nothing_is_touched_between_steps(desk: Desk) -> None:
    """A reader that comes between two steps sees the head and nothing of the edit."""
    before = bits(desk.stand.loaded)
    edit, steps = desk.begin(**JUDGED)
    for step in steps:
        assert overridden(desk.stand.loaded) == [], step
        assert desk.stand.resident.revision == 0
        assert same_bits(before, bits(desk.stand.loaded))
    assert desk.stand.edits.get(edit.id).status is EditStatus.APPLIED


@pytest.mark.parametrize("phase", ["templates", "key", "value", "measure", "commit"])
def test_a_stop_at_any_step_leaves_nothing(desk: Desk, phase: str) -> None:
    before = desk.stand.state()
    edit, steps = desk.begin()
    while next(steps).phase != phase:
        pass
    steps.close()
    assert desk.stand.state() == before
    assert desk.stand.edits.get(edit.id).status is EditStatus.RUNNING
    assert list(desk.stand.blobs_folder.glob("*.safetensors")) == []
    assert overridden(desk.stand.loaded) == []


def test_before_is_measured_on_the_base_and_the_delta_on_the_head(desk: Desk) -> None:
    first = desk.run(**JUDGED)
    second = desk.run(prompt="The Eiffel Tower is in", subject="The Eiffel Tower", target_new="Rome")
    again = desk.run(**JUDGED, hparams={"v_num_grad_steps": 3})
    assert [edit.revision for edit in (first, second, again)] == [1, 2, 3]
    assert first.outcome is not None
    assert again.outcome is not None
    assert first.outcome.metrics is not None
    assert again.outcome.metrics is not None
    base, known = again.outcome.metrics.before.rewrite.target_new, first.outcome.metrics.before.rewrite.target_new
    assert base.nll == pytest.approx(known.nll, abs=1e-5)
    assert again.outcome.generations[0].before == first.outcome.generations[0].before
    assert desk.stand.ledger.revision(3).active == (first.id, second.id, again.id)


def test_templates_do_not_depend_on_the_edits_before(open_desk: Callable[..., Desk]) -> None:
    """The same edit makes the same blob, whether templates are sampled now or were before another edit."""
    desk = open_desk()
    desk.run()
    desk.stand.history.rollback(0)
    desk.stand.commit(random_delta(desk.stand.loaded, 2, scale=2.0))
    fresh = open_desk()
    templates = list(_prefixes(fresh))
    assert templates == list(_prefixes(desk))
    assert templates[0] == ""
    assert len(templates) == 4


def _prefixes(desk: Desk) -> Any:
    return finish(desk.editor.computation._templates(RankOneHparams.model_validate(DEFAULTS)))


def test_base_revision_is_a_condition(desk: Desk) -> None:
    desk.run()
    error = desk.refused(base_revision=0)
    assert isinstance(error, ProblemError)
    assert (error.problem.status, error.problem.type.split(":")[-1]) == (409, "head-moved")
    assert "The head is r1, and base_revision asks for r0" in error.problem.detail
    assert desk.run(base_revision="r1").revision == 2


@pytest.mark.parametrize("phase", ["templates", "value", "measure", "commit"])
def test_a_head_that_moves_meanwhile_is_edited_instead(desk: Desk, phase: str) -> None:
    desk.stand.commit(random_delta(desk.stand.loaded, 2))
    edit, steps = desk.begin()
    while next(steps).phase != phase:
        pass
    moved = desk.stand.history.rollback(0)
    revision = committed(finish(steps))
    assert (revision.revision, revision.parent) == (moved.revision + 1, moved.revision)
    assert revision.active == (edit.id,)
    assert revision.checksum == live_checksum(desk.stand.loaded)
    alone = bits(desk.stand.loaded)
    desk.stand.history.rollback(0)
    finish(desk.begin()[1])
    assert same_bits(alone, bits(desk.stand.loaded)), "computed on the new head, as if it had always been the head"


def test_a_head_that_moves_meanwhile_breaks_the_condition(desk: Desk) -> None:
    edit, steps = desk.begin(base_revision=0)
    while next(steps).phase != "value":
        pass
    desk.stand.history.rollback(0)
    with pytest.raises(ProblemError, match="The head is r1") as raised:
        finish(steps)
    assert raised.value.problem.status == 409
    assert desk.stand.edits.get(edit.id).status is EditStatus.RUNNING
    assert desk.stand.ledger.head() == 1


def test_an_edit_that_is_cancelled_before_its_commit_changes_nothing(desk: Desk) -> None:
    before = desk.stand.state()
    edit, steps = desk.begin()
    while next(steps).phase != "commit":
        pass
    desk.stand.edits.cancel(edit.id)
    with pytest.raises(EditEndedError):
        finish(steps)
    assert desk.stand.state() == before


def _diverged(error: ProblemError | EditError) -> bool:
    assert isinstance(error, ProblemError)
    assert "v_lr" in error.problem.detail
    return (error.problem.status, error.problem.type.split(":")[-1]) == (422, "edit-diverged")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_change_that_is_not_finite_is_refused(desk: Desk, value: float) -> None:
    rome = discover()["rome"]

    def compute(context: EditContext, facts: Sequence[FactLike], hparams: Any) -> Steps[WeightDelta]:
        delta = yield from rome.compute(context, facts, hparams)
        low_rank(delta.layers[1]).residuals[3] = value
        return delta

    diverging = replace(rome, compute=compute)
    desk.editor = desk.editor_of({"rome": diverging})
    assert _diverged(desk.refused())


def test_a_change_that_the_models_dtype_cannot_hold_is_refused(open_desk: Callable[..., Desk]) -> None:
    """The delta is finite in float32, the weight that it makes is not in float16."""
    desk = open_desk(dtype=torch.float16)
    assert _diverged(desk.refused(hparams={"v_lr": 1e7, "clamp_norm_factor": 1e9, "v_num_grad_steps": 2}))
    assert desk.run().revision == 1


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"v_lrr": 1}, "hparams.v_lrr"),
        ({"v_lr": "fast"}, "hparams.v_lr"),
        ({"layers": []}, "hparams.layers"),
        ({"layers": [1, "x"]}, "hparams.layers"),
        ({"context_templates": []}, "hparams.context_templates"),
    ],
)
def test_wrong_hyperparameters_are_named(desk: Desk, wrong: dict[str, Any], field: str) -> None:
    error = desk.refused(hparams=wrong)
    assert isinstance(error, ProblemError)
    assert error.problem.status == 422
    assert any(e.field.startswith(field) for e in error.problem.errors), error.problem


def test_a_model_without_shipped_values_needs_them_all(desk: Desk) -> None:
    desk.editor = desk.editor_of(defaults=lambda _: None)
    error = desk.refused(hparams={"v_lr": 0.5})
    assert isinstance(error, ProblemError)
    assert "hparams.layers" in error.problem.detail
    assert desk.run(hparams=DEFAULTS).revision == 1


@pytest.fixture(autouse=True)
def _no_gradients_left() -> Iterator[None]:
    assert torch.is_grad_enabled()
    yield
    assert torch.is_grad_enabled()


def test_a_step_is_what_a_client_sees(desk: Desk) -> None:
    _, steps = desk.begin()
    value = next(step for step in steps if step.phase == "value")
    assert value == Step("value", 1, 6, value.loss, value.target_probability)
    assert value.loss is not None
    assert value.target_probability is not None
    assert 0 < value.target_probability < 1
    steps.close()
