"""A benchmark edits, scores and forgets: what it finds is what edits would, and nobody can see that it ran."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from service.contracts.benchmarks import BenchmarkResult, Mode
from service.contracts.records import Record
from service.contracts.scores import RecordScores
from service.errors import ProblemError
from tests.driving import finish, finish_noting
from tests.worker.benchmarking.kit import FAST, RECORDS, begin, benchmarker, request, run, timeless
from tests.worker.engine.desk import BATCH
from tests.worker.engine.kit import Stand, bits, random_delta, same_bits, surroundings
from worker.editing.delta import WeightDelta
from worker.engine.state import State
from worker.evaluation.records import measure_records

SEQUENTIAL = {"mode": "sequential", "batch_size": 2, "checkpoints": 2}


def scored(stand: Stand, records: Sequence[Record], state: State, base: State) -> list[RecordScores]:
    """What measuring says, without a benchmark."""

    def sides(rows: int) -> Any:
        return stand.resident.view([base.weights] * rows + [state.weights] * rows)

    return finish(measure_records(stand.loaded, records, sides))


def delta(stand: Stand, folder: Path, method: str, records: Sequence[Record], state: State) -> WeightDelta:
    """What the method computes, without a benchmark."""
    computation = benchmarker(stand, folder)._computation
    facts = [fact for record in records for fact in record.facts]
    width = stand.resident.base_of_layer(0).shape[1]
    none = random_delta(stand.loaded).layers[1].dense().new_empty(width, 0)
    return finish(computation.delta(method, facts, computation.hparams(method, FAST), state, lambda _: none))


def of(result: BenchmarkResult, method: int = 0) -> list[RecordScores | None]:
    return [record.outcomes[method].scores for record in result.records]


@pytest.mark.parametrize("revision", [0, 1])
def test_each_record_is_edited_alone_and_scored_against_what_it_was_edited_on(
    stand: Stand, tmp_path: Path, revision: int
) -> None:
    stand.commit(random_delta(stand.loaded, 2))
    result = run(stand, tmp_path, request("rome", "memit", n=3), revision)
    base = State.fold(stand.resident, stand.history.deltas_at(revision))
    for method, name in enumerate(("rome", "memit")):
        expected = [
            scored(stand, [record], base.plus(delta(stand, tmp_path, name, [record], base)), base)[0]
            for record in RECORDS[:3]
        ]
        assert of(result, method) == expected
        found = result.methods[method]
        assert (found.method, found.label, found.scored, found.failed, found.edits) == (
            name,
            f'{name} (v_num_grad_steps=2, context_templates=[""])',
            3,
            0,
            3,
        )
        assert found.hparams["v_num_grad_steps"] == 2
        assert found.summary is not None
        assert found.summary.after.ci95["EA"] is not None
        assert found.perplexity_ratio is not None
        assert found.seconds_per_edit == found.seconds_per_record
        assert {"measure", "drift", "value"} <= found.timings.keys()
    assert (result.revision, result.checksum) == (revision, stand.ledger.entries()[revision].checksum)
    assert [record.record for record in result.records] == RECORDS[:3]


def test_a_batch_is_one_edit(stand: Stand, tmp_path: Path) -> None:
    result = run(stand, tmp_path, request("memit", mode="batch", batch_size=4))
    base = stand.history.state
    groups = RECORDS[:4], RECORDS[4:]
    states = [base.plus(delta(stand, tmp_path, "memit", group, base)) for group in groups]
    expected = [one for group, state in zip(groups, states, strict=True) for one in scored(stand, group, state, base)]
    assert of(result) == expected
    (method,) = result.methods
    assert method.edits == 2
    assert method.seconds_per_edit == pytest.approx(3 * (method.seconds_per_record or 0))


def test_a_sequence_is_scored_on_its_way(stand: Stand, tmp_path: Path) -> None:
    result = run(stand, tmp_path, request("memit", **SEQUENTIAL))
    base = state = stand.history.state
    states = []
    for begins in (0, 2, 4):
        state = state.plus(delta(stand, tmp_path, "memit", RECORDS[begins : begins + 2], state))
        states.append(state)
    assert of(result) == scored(stand, RECORDS, states[-1], base)
    (method,) = result.methods
    points = method.checkpoints
    assert [(point.edits, point.records) for point in points] == [(2, 4), (3, 6)]
    after = [one.after.summary for one in scored(stand, RECORDS[:4], states[1], base)]
    assert points[0].all.named()["EA"] == pytest.approx(sum(one.EA for one in after) / 4)
    assert points[0].drift == stand.history.measured_drift(states[1])
    assert points[0].first == points[0].all == points[0].last
    assert points[1].last != points[1].all
    assert method.perplexity_ratio == points[-1].drift.perplexity_ratio
    assert method.edits == 3
    assert method.summary is not None
    assert method.summary.after.EA == points[-1].all.EA


@pytest.mark.parametrize("fields", [{}, {"mode": "batch", "batch_size": 2}, SEQUENTIAL])
def test_nobody_sees_that_it_runs(stand: Stand, tmp_path: Path, fields: dict[str, Any]) -> None:
    stand.commit(random_delta(stand.loaded, 2))
    before, found, state = bits(stand.loaded), surroundings(stand.loaded), stand.state()
    blobs = sorted(stand.blobs_folder.iterdir())
    for _ in begin(stand, tmp_path, request("rome", "memit", n=4, generation=True, **fields), 1):
        assert same_bits(bits(stand.loaded), before)
        assert surroundings(stand.loaded) == found
    assert (same_bits(bits(stand.loaded), before), stand.state()) == (True, state)
    assert sorted(stand.blobs_folder.iterdir()) == blobs


@pytest.mark.parametrize("fields", [{"n": 3}, {"mode": "batch", "batch_size": 2}, SEQUENTIAL])
def test_interrupted_anywhere_it_goes_on_and_finds_the_same(
    stand: Stand, tmp_path: Path, fields: dict[str, Any]
) -> None:
    asked = request("rome", "memit", **fields)
    whole = run(stand, tmp_path / "whole", asked)
    edits = 0
    for attempt in count():
        steps = begin(stand, tmp_path / "torn", asked)
        try:
            for _ in range(7 + attempt):
                edits += "value" in next(steps).phase
        except StopIteration as end:
            result = end.value
            break
        steps.close()
        lines = tmp_path / "torn" / "benchmarks" / ("b" * 16) / "results.jsonl"
        if lines.exists():
            with lines.open("ab") as file:
                file.write(b'{"method":0,"ind')  # as a kill leaves it
    assert attempt > 2
    assert timeless(result) == timeless(whole)
    assert not list((tmp_path / "torn").rglob("deltas"))


def test_what_is_done_is_not_done_again(stand: Stand, tmp_path: Path) -> None:
    asked = request("rome", n=3)
    first = run(stand, tmp_path, asked)
    again, steps = finish_noting(begin(stand, tmp_path, asked))
    assert again == first
    assert [step.phase for step in steps] == ["fold"]


def test_progress_counts_the_records_of_all_methods_and_tells_the_time_left(stand: Stand, tmp_path: Path) -> None:
    _, steps = finish_noting(begin(stand, tmp_path, request("rome", "memit", n=2)))
    told = [step for step in steps if ":" in step.phase]
    assert {step.steps for step in told} == {4}
    assert sorted({step.step for step in told}) == [0, 1, 2, 3]
    assert told[0].seconds_left is None
    assert all((step.seconds_left or 0) > 0 for step in told if step.step)
    assert any(step.phase.endswith(": value 1/2") and step.loss is not None for step in told)


def test_an_edit_that_fails_is_told_and_the_others_are_made(stand: Stand, tmp_path: Path) -> None:
    without_text = {"method": "memit", "hparams": {**FAST, "mom2_dataset": "corpus"}}
    result = run(stand, tmp_path, request("rome", without_text, n=2))
    rome, wrong = result.methods
    assert (rome.scored, rome.failed) == (2, 0)
    assert (wrong.scored, wrong.failed, wrong.summary, wrong.edits) == (0, 2, None, 0)
    assert "PALIMPSEST_CORPUS" in str(result.records[0].outcomes[1].problem)
    sequence = run(stand, tmp_path / "sequence", request(without_text, **SEQUENTIAL)).methods[0]
    assert (sequence.failed, sequence.checkpoints) == (6, ())


def test_a_change_that_cannot_be_summed_is_a_failure_of_its_record(stand: Stand, tmp_path: Path) -> None:
    wild = {"layers": [1], "num_steps": 3, "lr": 1e18, "weight_decay": 0, "kl_factor": 0, "norm_constraint": False}
    result = run(stand, tmp_path, request({"method": "ft-l", "hparams": wild}, n=2))
    (method,) = result.methods
    assert (method.scored, method.failed, method.perplexity_ratio) == (0, 2, None)
    assert "can be summed exactly" in str(result.records[0].outcomes[0].problem)


def test_records_that_do_not_fit_are_named_and_left_out(stand: Stand, tmp_path: Path) -> None:
    long = RECORDS[0].model_copy(update={"case_id": 99})
    result = run(stand, tmp_path, request(records=[long, *RECORDS[:2]]))
    assert [record.record.case_id for record in result.records] == [10, 11]
    assert (result.available, result.faults) == (2, ("case 99: facts[0].prompt: too long",))
    with pytest.raises(ProblemError, match="case 99: facts"):
        run(stand, tmp_path / "none", request(records=[long], faults=["record 3: subject"]))


def test_one_that_does_not_fit_is_replaced_and_what_the_file_lost_is_told(stand: Stand, tmp_path: Path) -> None:
    long = RECORDS[0].model_copy(update={"case_id": 99})
    asked = request(records=[long, *RECORDS[:3]], n=2, left_out=1, faults=["record 4, line 5: subject: is required"])
    result = run(stand, tmp_path, asked)
    assert [record.record.case_id for record in result.records] == [10, 11], "as many as were asked for"
    assert result.available == 3
    assert result.faults == ("record 4, line 5: subject: is required", "case 99: facts[0].prompt: too long")


def test_a_seed_draws_records(stand: Stand, tmp_path: Path) -> None:
    def drawn(name: str, **fields: Any) -> list[int]:
        result = run(stand, tmp_path / name, request(n=3, **fields))
        return [record.record.case_id for record in result.records]

    assert drawn("first") == [10, 11, 12]
    assert drawn("one", seed=1) == drawn("same", seed=1) != drawn("other", seed=2)


def test_only_what_the_model_knows(stand: Stand, tmp_path: Path) -> None:
    """A random model knows whatever it is found to say."""
    with_true = [record for record in RECORDS if record.facts[0].target_true]
    assert len(with_true) == 1
    (scores,) = scored(stand, with_true, stand.history.state, stand.history.state)
    before = scores.facts[0].before
    assert before.target_true is not None
    likelier = before.target_true.nll < before.target_new.nll
    swapped = Record.model_validate(
        {"case_id": 50, "facts": [{**BATCH[0], "target_new": "football", "target_true": "basketball"}]}
    )
    expected = with_true[0] if likelier else swapped
    result = run(stand, tmp_path, request(records=[*RECORDS, swapped], likelier_only=True))
    assert [record.record.case_id for record in result.records] == [expected.case_id]
    assert (result.available, result.faults) == (2, ("5 without a target_true, which likelier_only needs",))


@pytest.mark.parametrize(
    ("asked", "field", "words"),
    [
        ({"known_only": True}, "known_only", "it is the model's own answer; 5 more have none"),
        ({"likelier_only": True}, "likelier_only", "it is likelier than target_new; 5 more have none"),
        (
            {"known_only": True, "likelier_only": True},
            "known_only",
            "it is the model's own answer and likelier than target_new; 5 more have none",
        ),
    ],
)
def test_where_the_model_knows_none_it_says_which_condition_failed(
    stand: Stand, tmp_path: Path, asked: dict[str, Any], field: str, words: str
) -> None:
    with_true = next(record for record in RECORDS if record.facts[0].target_true)
    with_none = [record for record in RECORDS if record is not with_true]
    (scores,) = scored(stand, [with_true], stand.history.state, stand.history.state)
    before = scores.facts[0].before
    assert before.target_true is not None
    fact = with_true.facts[0]
    if before.target_true.nll < before.target_new.nll:
        fact = fact.model_copy(update={"target_new": fact.target_true, "target_true": fact.target_new})
    less_likely = Record(case_id=50, facts=(fact,))
    with pytest.raises(ProblemError) as raised:
        run(stand, tmp_path, request(records=[*with_none, less_likely], **asked))
    (error,) = raised.value.problem.errors
    assert error.field == field
    assert error.detail == f"of the 1 records with a target_true there is none where {words}"


@pytest.mark.parametrize("condition", ["known_only", "likelier_only"])
def test_where_no_record_has_a_true_answer_that_is_the_reason(stand: Stand, tmp_path: Path, condition: str) -> None:
    with_none = [record for record in RECORDS if record.facts[0].target_true is None]
    with pytest.raises(ProblemError, match=f"^{condition}: none of its 5 records has a target_true$"):
        run(stand, tmp_path, request(records=with_none, **{condition: True}))


def test_what_is_said_freely_is_scored_where_it_is_asked_for(stand: Stand, tmp_path: Path) -> None:
    records = [RECORDS[0].model_copy(update={"generation_prompts": ("Messi",), "reference_texts": ("Messi plays.",)})]
    found = [run(stand, tmp_path / str(on), request(records=records, generation=on)) for on in (False, True)]
    without, spoken = (result.methods[0].summary for result in found)
    assert without is not None
    assert without.after.generated is None
    assert spoken is not None
    assert spoken.after.generated is not None
    assert spoken.after.generated.RS is not None
    assert found[1].records[0].record.reference_texts == ()


def test_modes_are_what_the_request_says() -> None:
    assert [request(mode=mode).size(6) for mode in Mode] == [1, 6, 1]
    with pytest.raises(ValueError, match="must be 1 in mode single"):
        request(batch_size=2)
    with pytest.raises(ValueError, match="case_id of its own"):
        request(records=[RECORDS[0], RECORDS[0]])
    with pytest.raises(ValueError, match="at most 20000"):
        request("rome", "memit", "emmet", n=10_000)
