"""Many facts in one edit: one revision, a score for each fact, and what one fact after another would have been."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from service.contracts.edits import Edit, EditStatus, Fact, Outcome
from service.contracts.scores import FactScores
from tests.driving import finish, finish_noting
from tests.worker.engine.desk import BATCH, DEFAULTS, DIRECT, FACT, MEMIT, Desk
from tests.worker.engine.kit import bits, live_checksum, low_rank, random_delta, same_bits, wanted
from worker.editing.context import EditContext, FactLike
from worker.editing.delta import WeightDelta
from worker.editing.method import Method, discover
from worker.editing.progress import Steps
from worker.engine.blobs import BlobStore
from worker.engine.generation import decode
from worker.engine.verdict import SHOWN_FACTS, SHOWN_TOKENS
from worker.evaluation.metrics import fact_scores, measure

Open = Callable[..., Desk]
TWINS = [
    {"prompt": "Lionel Messi plays", "subject": "Lionel Messi", "target_new": "basketball"},
    {"prompt": "Lionel Messi lives in", "subject": "Lionel Messi", "target_new": "Rome"},
]
"""The same tokens up to the subject's end, so the same key."""
THOROUGH = {"v_num_grad_steps": 30, "v_lr": 0.2, "context_templates": [""]}
"""Steps enough to write what can be written."""


def _outcome(edit: Edit) -> Outcome:
    assert edit.status is EditStatus.APPLIED
    assert edit.outcome is not None
    return edit.outcome


def _delta(desk: Desk, revision: int | None) -> WeightDelta:
    assert revision is not None
    return BlobStore(desk.stand.blobs_folder).get(str(desk.stand.ledger.entries()[revision].blob))


def _factors(desk: Desk, revision: int | None) -> tuple[Tensor, Tensor]:
    (change,) = map(low_rank, _delta(desk, revision).layers.values())
    return change.residuals, change.solver


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("method", "family"), [("memit", "llama"), ("memit", "gpt2"), ("rome", "llama")])
def test_a_batch_is_one_revision_that_writes_every_fact(
    open_desk: Open, method: str, family: str, dtype: torch.dtype
) -> None:
    desk = open_desk(family, dtype=dtype)
    stand = desk.stand
    base = bits(stand.loaded)
    edit = desk.run(method=method, facts=DIRECT, hparams=THOROUGH)
    outcome = _outcome(edit)
    layers = {"memit": [1, 2], "rome": [1]}[method]
    revision = stand.ledger.revision(1)
    assert (edit.revision, revision.active, stand.ledger.head()) == (1, (edit.id,), 1)
    assert set(revision.tensors) == {stand.resident.name_of(layer) for layer in layers}
    assert revision.checksum == live_checksum(stand.loaded) != stand.resident.base_checksum
    assert stand.loaded.dtype is dtype
    delta = _delta(desk, 1)
    assert {layer: keys.shape[1] for layer, keys in delta.keys.items()} == dict.fromkeys(layers, len(DIRECT))
    assert {layer: low_rank(change).solver.shape[1] for layer, change in delta.layers.items()} == dict.fromkeys(
        layers, len(DIRECT)
    )
    assert len(outcome.facts) == len(DIRECT)
    for scores in outcome.facts:
        assert scores.after.target_new.nll < scores.before.target_new.nll - 1.0
    assert outcome.metrics is None
    assert outcome.warnings == ()
    assert outcome.hparams["layers"] == layers
    assert stand.history.rollback(0).checksum == live_checksum(stand.loaded)
    assert same_bits(base, bits(stand.loaded))


def test_an_outcome_says_of_each_fact_what_can_be_measured_of_it(desk: Desk) -> None:
    facts = [*BATCH, *TWINS]
    outcome = _outcome(desk.run(method="memit", facts=facts))
    resident, head = desk.stand.resident, desk.stand.resident.installed
    for fact, scores in zip(facts, outcome.facts, strict=True):
        steps = measure(
            resident.loaded, [Fact.model_validate(fact)], lambda rows: resident.view([{}] * rows + [head] * rows)
        )
        _close(scores, fact_scores(finish(steps)[0]))
    assert len(outcome.generations) == SHOWN_FACTS < len(facts)
    for fact, shown in zip(facts, outcome.generations, strict=False):
        rows = [wanted(fact["prompt"], 0, weights, SHOWN_TOKENS) for weights in ({}, head)]
        before, after = decode(resident.loaded, resident.view, rows)
        assert (shown.prompt, shown.before, shown.after) == (fact["prompt"], before.text, after.text)
    took = [scores.after.summary.EA for scores in outcome.facts]
    assert pytest.approx(sum(took) / len(took)) == outcome.summary.after.EA
    assert outcome.summary.after.ES == outcome.facts[0].after.summary.ES
    assert {
        "templates",
        "statistics",
        "factor",
        "key",
        "value",
        "keys",
        "update",
        "measure",
        "generate",
        "drift",
    } == set(outcome.timings)


def _close(found: FactScores, expected: FactScores) -> None:
    for one, other in ((found.before, expected.before), (found.after, expected.after)):
        assert one.target_new.nll == pytest.approx(other.target_new.nll, rel=1e-4)
        assert one.summary.named() == pytest.approx(other.summary.named(), rel=1e-4, abs=1e-6)
        assert (one.target_true is None) is (other.target_true is None)


def test_rome_writes_a_batch_as_one_edit_after_another(open_desk: Open) -> None:
    """Bit for bit the factors that edits of their own would have had, each under those before."""
    desk = open_desk()
    singly = [desk.run(**fact) for fact in BATCH]
    factors = [_factors(desk, edit.revision) for edit in singly]
    sequential = {name: tensor.clone() for name, tensor in desk.stand.resident.installed.items()}
    desk.stand.history.rollback(0)
    edit = desk.run(facts=BATCH)
    residuals, solver = _factors(desk, edit.revision)
    for index, (residual, direction) in enumerate(factors):
        assert torch.equal(residuals[:, [index]], residual), index
        assert torch.equal(solver[:, [index]], direction), index
    for name, tensor in desk.stand.resident.installed.items():
        torch.testing.assert_close(tensor, sequential[name], rtol=1e-5, atol=1e-6)
    desk.stand.history.rollback(0)
    alone = _factors(desk, desk.run(**BATCH[1]).revision)
    assert not torch.equal(alone[0], factors[1][0]), "the change before it makes a difference"


@pytest.mark.parametrize("method", ["rome", "memit"])
def test_a_batch_is_computed_on_the_head(open_desk: Open, method: str) -> None:
    """On an edited head, installed by a commit or folded at a start, it is the same; on the base it is another."""
    changes = []
    for restart in (False, True):
        desk = open_desk()
        if desk.stand.ledger.head() == 0:
            desk.stand.commit(random_delta(desk.stand.loaded, 1, 2, scale=0.2))
        else:
            desk.stand.history.rollback(1)
        if restart:
            desk = open_desk()
        changes.append(_delta(desk, desk.run(method=method, facts=BATCH).revision))
    desk.stand.history.rollback(0)
    changes.append(_delta(desk, desk.run(method=method, facts=BATCH).revision))
    first, again, on_base = (low_rank(delta.layers[1]).residuals for delta in changes)
    assert torch.equal(first, again)
    assert not torch.equal(first, on_base)


@pytest.mark.parametrize("method", ["rome", "memit"])
def test_a_batch_of_one_is_the_edit_of_that_fact(desk: Desk, method: str) -> None:
    alone = desk.run(method=method)
    desk.stand.history.rollback(0)
    batch = desk.run(method=method, facts=[FACT])
    entries = desk.stand.ledger.entries()
    assert entries[batch.revision or 0].blob == entries[alone.revision or 0].blob
    assert _outcome(batch).metrics == _outcome(alone).metrics
    assert _outcome(batch).metrics is not None


def _watching(method: Method, seen: list[Any]) -> Method:
    def compute(context: EditContext, facts: Sequence[FactLike], hparams: Any) -> Steps[WeightDelta]:
        seen.append(([fact.target_new for fact in facts], context.active_keys(1).shape[1]))
        return method.compute(context, facts, hparams)

    return replace(method, compute=compute)


@pytest.mark.parametrize(("method", "calls"), [("memit", [3]), ("rome", [1, 1, 1])])
def test_a_method_is_given_as_many_facts_as_it_takes(desk: Desk, method: str, calls: list[int]) -> None:
    seen: list[Any] = []
    desk.editor = desk.editor_of({method: _watching(discover()[method], seen)})
    for _ in range(2):
        desk.run(method=method, facts=BATCH)
    given = [facts for facts, _ in seen]
    assert [len(facts) for facts in given] == calls * 2
    assert [target for facts in given for target in facts] == [fact["target_new"] for fact in BATCH] * 2
    assert [keys for _, keys in seen] == [0] * len(calls) + [len(BATCH)] * len(calls), "of the edits before this one"


@pytest.mark.parametrize(("method", "values"), [("rome", 3 * 6), ("memit", 6)])
def test_the_steps_of_all_facts_are_counted(desk: Desk, method: str, values: int) -> None:
    edit, steps = desk.begin(method=method, facts=BATCH, hparams={"v_lr": 0.01})
    _, seen = finish_noting(steps)
    counted = [step for step in seen if step.phase == "value"]
    assert [(step.step, step.steps) for step in counted] == [(n, values) for n in range(1, values + 1)]
    assert [step.step for step in seen if step.phase == "commit"] == [1]
    assert desk.stand.edits.get(edit.id).status is EditStatus.APPLIED


def test_a_warning_reaches_the_outcome_once(desk: Desk) -> None:
    """However often a computation says it: here for each fact, and again after the head has moved."""
    few = {"mom2_adjustment": True, "mom2_n_tokens": 20}
    _, steps = desk.begin(facts=BATCH, hparams=few)
    while (step := next(steps)).warning is None:
        pass
    assert (step.phase, "not positive definite" in str(step.warning)) == ("factor", True)
    desk.stand.history.rollback(0)
    _, seen = finish_noting(steps)
    assert sum(step.warning is not None for step in seen) > 1
    edit = desk.stand.edits.get(desk.stand.ledger.entries()[-1].edit or "")
    (warning,) = _outcome(edit).warnings
    assert "20 tokens" in warning
    assert _outcome(desk.run()).warnings == ()


def test_facts_that_share_a_key_are_named_in_a_warning(desk: Desk) -> None:
    warnings = _outcome(desk.run(method="memit", facts=[BATCH[1], *TWINS])).warnings
    assert [text for text in warnings if "Facts 1 and 2" in text] == list(warnings) != []


@pytest.mark.parametrize("method", ["rome", "memit"])
def test_values_may_be_computed_in_another_dtype(open_desk: Open, method: str) -> None:
    """Coarser numbers on the way make a slightly other delta of the same float32 weights."""
    desk = open_desk()
    exact = _outcome(desk.run(method=method, facts=DIRECT, hparams=THOROUGH))
    desk.stand.history.rollback(0)
    desk.editor = desk.editor_of(compute_dtype=torch.bfloat16)
    edit = desk.run(method=method, facts=DIRECT, hparams=THOROUGH)
    coarse = _outcome(edit)
    assert desk.stand.loaded.dtype is torch.float32
    assert desk.stand.ledger.revision(edit.revision or 0).checksum == live_checksum(desk.stand.loaded)
    assert coarse.facts != exact.facts
    for one, other in zip(coarse.facts, exact.facts, strict=True):
        assert one.before.target_new.nll == pytest.approx(other.before.target_new.nll, rel=1e-6)
        assert one.after.target_new.nll == pytest.approx(other.after.target_new.nll, rel=0.05)
        assert one.after.target_new.nll < one.before.target_new.nll - 1.0


def test_defaults_are_those_of_the_method(desk: Desk) -> None:
    assert _outcome(desk.run(method="memit", facts=BATCH[:2])).hparams["layers"] == list(MEMIT["layers"])
    assert _outcome(desk.run(facts=BATCH[:2])).hparams["layers"] == list(DEFAULTS["layers"])
