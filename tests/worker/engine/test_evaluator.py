"""An evaluation scores facts at a revision as measuring them there would, and changes nothing."""

from collections.abc import Sequence
from typing import Any

import pytest

from service.contracts.edits import BatchRequest, EditRequest, Fact
from service.contracts.evaluations import EvaluationRequest, EvaluationResult
from service.errors import ProblemError
from tests.driving import finish, finish_noting
from tests.worker.engine.desk import BATCH
from tests.worker.engine.kit import Boot, Stand, bits, random_delta, same_bits, surroundings
from worker.engine.evaluator import Evaluator
from worker.evaluation.metrics import fact_scores, measure, summaries
from worker.models.view import Weights

FACTS = [Fact.model_validate(fact) for fact in BATCH]


@pytest.fixture
def stand(boot: Boot) -> Stand:
    """A tiny llama at r0."""
    return boot()


def evaluator(stand: Stand) -> Evaluator:
    return Evaluator(stand.history, stand.ledger, stand.edits)


def evaluate(stand: Stand, revision: int, facts: Any = "active") -> EvaluationResult:
    return finish(evaluator(stand).run(EvaluationRequest(facts=facts), revision))


def apply(stand: Stand, *facts: dict[str, Any], seed: int = 0) -> str:
    """An edit of these facts, whose delta is nobody's choice."""
    one = len(facts) == 1
    request = EditRequest.model_validate(facts[0]) if one else BatchRequest.model_validate({"facts": facts})
    edit_id, _ = stand.edits.create(request)
    assert stand.edits.take_up(edit_id)
    stand.commit(random_delta(stand.loaded, seed=seed), edit_id)
    return edit_id


def measured(stand: Stand, facts: Sequence[Fact], weights: Weights) -> list[Any]:
    """What measuring says, without an evaluation."""
    steps = measure(stand.loaded, facts, lambda rows: stand.resident.view([{}] * rows + [weights] * rows))
    return [fact_scores(metrics) for metrics in finish(steps)]


def scores(result: EvaluationResult) -> list[Any]:
    return [(fact.before, fact.after) for fact in result.facts]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_facts_are_scored_at_any_revision_as_measuring_them_there(boot: Boot, family: str) -> None:
    stand = boot(family)
    for seed in range(3):
        apply(stand, BATCH[seed], seed=seed)
    stand.history.rollback(1)
    for revision in range(5):
        result = evaluate(stand, revision, tuple(FACTS))
        expected = measured(stand, FACTS, stand.history.weights_at(revision))
        assert scores(result) == [(score.before, score.after) for score in expected]
        assert result.summary == summaries(expected)
        entry = stand.ledger.entries()[revision]
        assert (result.revision, result.checksum, result.drift) == (revision, entry.checksum, entry.drift)
        assert [(fact.prompt, fact.subject, fact.target_new, fact.edit) for fact in result.facts] == [
            (fact.prompt, fact.subject, fact.target_new, None) for fact in FACTS
        ]
        assert result.timings.keys() == {"fold", "measure"}
    at_base, at_head, rolled_back_to = (evaluate(stand, revision, tuple(FACTS)) for revision in (0, 4, 1))
    assert at_base.summary.before == at_base.summary.after
    assert scores(at_head) == scores(rolled_back_to) != scores(at_base)


def test_an_evaluation_leaves_the_model_as_it_is(stand: Stand) -> None:
    apply(stand, BATCH[0])
    apply(stand, BATCH[1], seed=1)
    before, found, state = bits(stand.loaded), surroundings(stand.loaded), stand.state()
    steps = evaluator(stand).run(EvaluationRequest(facts="active"), 1)
    for _ in steps:
        assert same_bits(bits(stand.loaded), before)
        assert surroundings(stand.loaded) == found
    assert (same_bits(bits(stand.loaded), before), stand.state()) == (True, state)


def test_active_facts_come_from_the_edits_in_force_there(stand: Stand) -> None:
    first = apply(stand, *BATCH[:2])
    second = apply(stand, BATCH[2], seed=1)
    stand.history.revert(first)
    expected = {1: [first, first], 2: [first, first, second], 3: [second]}
    for revision, edits in expected.items():
        result = evaluate(stand, revision)
        assert [fact.edit for fact in result.facts] == edits
        assert [fact.prompt for fact in result.facts] == [
            BATCH[{first: 0, second: 2}[edit] + edits[:at].count(edit)]["prompt"] for at, edit in enumerate(edits)
        ]
        assert result.skipped == 0
    left = evaluate(stand, 3)
    assert scores(left) == scores(evaluate(stand, 3, (FACTS[2],)))
    assert left.drift == stand.ledger.entries()[3].drift is not None


def test_what_a_later_active_edit_overwrites_is_left_out(stand: Stand) -> None:
    old = apply(stand, *BATCH)
    new = apply(stand, {**BATCH[1], "target_new": "Paris"}, seed=1)
    result = evaluate(stand, 2)
    assert [(fact.edit, fact.target_new) for fact in result.facts] == [
        (old, BATCH[0]["target_new"]),
        (old, BATCH[2]["target_new"]),
        (new, "Paris"),
    ]
    assert result.skipped == 1
    stand.history.revert(new)
    result = evaluate(stand, 3)
    assert [fact.edit for fact in result.facts] == [old] * 3
    assert result.skipped == 0


def test_a_head_that_moves_meanwhile_does_not_matter(stand: Stand) -> None:
    apply(stand, BATCH[0])
    expected = evaluate(stand, 1)
    steps = evaluator(stand).run(EvaluationRequest(facts="active"), 1)
    phases = [next(steps).phase for _ in range(2)]
    apply(stand, BATCH[1], seed=1)
    result, rest = finish_noting(steps)
    assert result.model_copy(update={"timings": {}}) == expected.model_copy(update={"timings": {}})
    assert [*phases, *(step.phase for step in rest)] == ["collect", "fold", "measure"]


def test_where_no_edit_is_in_force_there_is_nothing_to_score(stand: Stand) -> None:
    apply(stand, BATCH[0])
    with pytest.raises(ProblemError, match="no edit is in force at r0") as raised:
        evaluate(stand, 0)
    assert (raised.value.problem.status, raised.value.problem.errors[0].field) == (422, "facts")


def test_a_damaged_old_revision_is_a_problem_and_the_head_is_served_on(boot: Boot) -> None:
    stand = boot()
    apply(stand, BATCH[0])
    blob = stand.blobs_folder / f"{stand.ledger.entries()[1].blob}.safetensors"
    stand.history.rollback(0)
    stand = boot()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises(ProblemError) as raised:
        evaluate(stand, 1)
    assert raised.value.problem.type.endswith(":revision-damaged")
    assert evaluate(stand, 2, tuple(FACTS)).revision == 2
