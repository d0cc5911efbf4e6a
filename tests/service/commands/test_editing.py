"""The commands that rewrite facts, against the running API."""

import io
import json
import sys
from pathlib import Path

import pytest

from service.contracts.edits import Edit, EditStatus
from service.errors import ProblemError
from tests.service import stand_in
from tests.service.acting import acting
from tests.service.conftest import Run
from tests.service.stand_in import EIFFEL, StandIn, batch_json

EDIT = ("edit", EIFFEL["prompt"], "--subject", EIFFEL["subject"], "--target-new", EIFFEL["target_new"])


def test_edit_follows_the_edit_and_shows_both_sides(ask: Run, worker: StandIn) -> None:
    with acting(worker, worker.apply):
        code, output, _ = ask(*EDIT)
    assert code == 0
    assert "before" in output
    assert "after" in output
    assert "p=0.500 Rome" in output
    assert "EA 1 → 1" in output
    assert "is applied, and made revision r1" in output


def test_edit_as_json(ask: Run, worker: StandIn) -> None:
    with acting(worker, worker.apply):
        code, output, _ = ask(*EDIT, "--target-true", "Paris", "--paraphrase", "a", "--paraphrase", "b", "--json")
    edit = Edit.model_validate_json(output)
    assert code == 0
    assert edit.revision == 1
    assert edit.request.facts[0].target_true == "Paris"
    assert edit.request.facts[0].paraphrases == ("a", "b")


def test_edit_sends_hyperparameters_as_json_values(ask: Run) -> None:
    code, output, _ = ask(*EDIT, "--no-wait", "--json", "--hparam", "v_lr=0.1", "--hparam", "layers=[5]")
    edit = Edit.model_validate_json(output)
    assert code == 0
    assert edit.status is EditStatus.QUEUED
    assert edit.request.hparams == {"v_lr": 0.1, "layers": [5]}
    assert edit.notice is not None


def facts_file(folder: Path, facts: int) -> str:
    path = folder / "facts.jsonl"
    path.write_text("\n".join(json.dumps(fact) for fact in batch_json(facts)["facts"]))
    return str(path)


@pytest.mark.parametrize("command", [("batch",), ("edit", "--batch")])
def test_a_batch_shows_means_and_the_worst_facts(
    command: tuple[str, ...], ask: Run, worker: StandIn, tmp_path: Path
) -> None:
    with acting(worker, worker.apply):
        code, output, _ = ask(*command, facts_file(tmp_path, 12), "--hparam", "v_lr=0.1")
    assert code == 0
    assert "means over 12 facts" in output
    assert "12 of 12 rewrites took" in output
    assert f"0. {EIFFEL['prompt']}" in output
    assert "is applied, and made revision r1" in output
    kept = worker.edits.page(None, 2, lambda _: True)[0][0]
    assert (kept.fact_count, kept.request.hparams) == (12, {"v_lr": 0.1})


@pytest.mark.parametrize("missing", [EDIT[:2], EDIT[:4], ("edit", *EDIT[2:])])
def test_an_edit_needs_a_fact_or_a_file(missing: tuple[str, ...], ask: Run) -> None:
    code, _, errors = ask(*missing)
    assert code == 2
    assert "is missing; or name a file with --batch" in errors


@pytest.mark.parametrize("extra", [EDIT[1:2], EDIT[2:4], ("--paraphrase", "a")])
def test_an_edit_takes_a_fact_or_a_file(extra: tuple[str, ...], ask: Run, tmp_path: Path) -> None:
    code, _, errors = ask("edit", "--batch", facts_file(tmp_path, 1), *extra)
    assert code == 2
    assert "is in the file that --batch names" in errors


def test_a_batch_of_one_shows_both_sides(ask: Run, worker: StandIn, tmp_path: Path) -> None:
    with acting(worker, worker.apply):
        code, output, _ = ask("batch", facts_file(tmp_path, 1))
    assert code == 0
    assert "p=0.500 Rome" in output


def test_a_batch_as_json_has_all_facts(
    ask: Run, worker: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = Path(facts_file(tmp_path, 7)).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    with acting(worker, worker.apply):
        code, output, _ = ask("batch", "-", "--hparam", "v_lr=0.1", "--base-revision", "r0", "--json")
    edit = Edit.model_validate_json(output)
    assert code == 0
    assert edit.outcome is not None
    assert (edit.fact_count, len(edit.request.facts), len(edit.outcome.facts)) == (7, 7, 7)
    assert (edit.request.hparams, edit.request.base_revision) == ({"v_lr": 0.1}, 0)


@pytest.mark.usefixtures("worker")
def test_a_batch_need_not_be_waited_for(ask: Run, tmp_path: Path) -> None:
    code, output, _ = ask("batch", facts_file(tmp_path, 7), "--no-wait")
    assert code == 0
    assert "is queued" in output


def test_a_batch_that_fails_says_why(ask: Run, worker: StandIn, tmp_path: Path) -> None:
    problem = ProblemError(422, "edit-diverged", "facts[3]: The change is not finite.").problem
    with acting(worker, lambda edit_id: worker.edits.end(edit_id, EditStatus.FAILED, problem)):
        code, output, errors = ask("batch", facts_file(tmp_path, 7))
    assert code == 1
    assert "is failed" in output
    assert errors == "facts[3]: The change is not finite.\n"


def test_warnings_are_shown(ask: Run, worker: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    found = stand_in.outcome().model_copy(update={"warnings": ("The [statistics] are thin.",)})
    monkeypatch.setattr(stand_in, "outcome", lambda _: found)
    with acting(worker, worker.apply):
        _, output, _ = ask(*EDIT)
    assert "warning: The [statistics] are thin." in output


def test_every_bad_line_of_a_file_is_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text(f'{json.dumps(EIFFEL)}\n{{"prompt" "x"}}\n\n{json.dumps({**EIFFEL, "subject": "Big Ben"})}')
    code, output, errors = run("batch", str(path))
    assert (code, output) == (2, "")
    assert errors.splitlines() == [
        "line 2: is not JSON: Expecting ':' delimiter, column 11",
        "line 4: subject: must occur in the prompt, verbatim and in the same case",
    ]


def test_an_edit_that_fails_says_why(ask: Run, worker: StandIn) -> None:
    problem = ProblemError(422, "no-such-token", "The subject has no tokens.").problem

    def fail(edit_id: str) -> None:
        worker.edits.end(edit_id, EditStatus.FAILED, problem)

    with acting(worker, fail):
        code, output, errors = ask(*EDIT)
    assert code == 1
    assert "is failed" in output
    assert errors == "The subject has no tokens.\n"
