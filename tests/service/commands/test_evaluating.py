"""The command that scores facts, against the running API."""

import json
from pathlib import Path

import pytest

from service.contracts.evaluations import Evaluation
from service.contracts.jobs import JobStatus
from service.errors import ProblemError
from tests.service.acting import acting
from tests.service.conftest import Run
from tests.service.stand_in import EIFFEL, StandIn, batch_json, queue_edit


def test_evaluate_scores_the_edits_in_force(ask: Run, worker: StandIn) -> None:
    worker.apply(queue_edit(worker.edits).id)
    with acting(worker, worker.evaluate, worker.evaluations):
        code, output, _ = ask("evaluate")
    assert code == 0
    for words in ("means over 1 fact", "1 of 1 facts hold at r1", EIFFEL["prompt"], "is completed, at r1"):
        assert words in output


def test_evaluate_scores_a_file_at_a_revision_as_json(ask: Run, worker: StandIn, tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text("\n".join(json.dumps(fact) for fact in batch_json(7)["facts"]))
    with acting(worker, worker.evaluate, worker.evaluations):
        code, output, _ = ask("evaluate", "--revision", "base", "--facts", str(path), "--json")
    evaluation = Evaluation.model_validate_json(output)
    assert code == 0
    assert evaluation.result is not None
    assert (evaluation.fact_count, len(evaluation.request.facts), len(evaluation.result.facts)) == (7, 7, 7)
    assert (evaluation.request.revision, evaluation.revision) == ("base", 0)


def test_no_wait_returns_at_once(ask: Run, worker: StandIn) -> None:
    worker.apply(queue_edit(worker.edits).id)
    code, output, _ = ask("evaluate", "--no-wait", "--json")
    assert (code, Evaluation.model_validate_json(output).status) == (0, JobStatus.QUEUED)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "no edit is in force at r0"),
        (("--revision", "r7"), 4, "There is no revision r7"),
        (("--revision", "newest"), 2, "must be base, head, or a revision"),
        (("--facts", "/nowhere/facts.json"), 2, "cannot be read"),
    ],
)
def test_what_cannot_be_scored_is_told(ask: Run, arguments: tuple[str, ...], code: int, words: str) -> None:
    ended, _, errors = ask("evaluate", *arguments)
    assert ended == code
    assert words in errors


@pytest.mark.parametrize("ending", ["failed", "cancelled"])
def test_an_evaluation_that_ends_otherwise_is_an_error(ask: Run, worker: StandIn, ending: str) -> None:
    worker.apply(queue_edit(worker.edits).id)
    problem = ProblemError(500, "revision-damaged", "A blob is damaged.").problem if ending == "failed" else None
    with acting(worker, lambda job_id: worker.evaluations.end_as(job_id, ending, problem), worker.evaluations):
        code, output, errors = ask("evaluate")
    assert code == 1
    assert f"is {ending}" in output
    assert ("A blob is damaged." in errors) is (ending == "failed")
