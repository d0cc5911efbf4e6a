"""The command line: what it prints, where, and with which exit code."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from service import cli
from service.contracts.edits import Edit, EditStatus
from service.contracts.model import ModelStatus
from service.contracts.revisions import Revision
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


def test_a_batch_shows_means_and_the_worst_facts(ask: Run, worker: StandIn, tmp_path: Path) -> None:
    with acting(worker, worker.apply):
        code, output, _ = ask("edit", "--batch", facts_file(tmp_path, 12))
    assert code == 0
    assert "means over 12 facts" in output
    assert "12 of 12 rewrites took" in output
    assert f"0. {EIFFEL['prompt']}" in output
    assert "is applied, and made revision r1" in output
    assert worker.edits.page(None, 2, lambda _: True)[0][0].fact_count == 12


def test_a_batch_of_one_shows_both_sides(ask: Run, worker: StandIn, tmp_path: Path) -> None:
    with acting(worker, worker.apply):
        code, output, _ = ask("edit", "--batch", facts_file(tmp_path, 1))
    assert code == 0
    assert "p=0.500 Rome" in output


def test_a_batch_as_json_has_all_facts(
    ask: Run, worker: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = Path(facts_file(tmp_path, 7)).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    with acting(worker, worker.apply):
        code, output, _ = ask("edit", "--batch", "-", "--hparam", "v_lr=0.1", "--base-revision", "r0", "--json")
    edit = Edit.model_validate_json(output)
    assert code == 0
    assert edit.outcome is not None
    assert (edit.fact_count, len(edit.request.facts), len(edit.outcome.facts)) == (7, 7, 7)
    assert (edit.request.hparams, edit.request.base_revision) == ({"v_lr": 0.1}, 0)


@pytest.mark.usefixtures("worker")
def test_a_batch_need_not_be_waited_for(ask: Run, tmp_path: Path) -> None:
    code, output, _ = ask("edit", "--batch", facts_file(tmp_path, 7), "--no-wait")
    assert code == 0
    assert "is queued" in output


def test_a_batch_that_fails_says_why(ask: Run, worker: StandIn, tmp_path: Path) -> None:
    problem = ProblemError(422, "edit-diverged", "facts[3]: The change is not finite.").problem
    with acting(worker, lambda edit_id: worker.edits.end(edit_id, EditStatus.FAILED, problem)):
        code, output, errors = ask("edit", "--batch", facts_file(tmp_path, 7))
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
    code, output, errors = run("edit", "--batch", str(path))
    assert (code, output) == (1, "")
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


def test_rollback(ask: Run, worker: StandIn) -> None:
    code, output, _ = ask("rollback", "r0")
    assert code == 0
    assert "r1 is the head: 0 edits in force, as in r0" in output
    assert "checksum c1" in output
    code, output, _ = ask("rollback", "0", "--json")
    assert Revision.model_validate_json(output).revision == 2
    assert len(worker.asked) == 2


def test_status(ask: Run, worker: StandIn) -> None:
    ask(*EDIT, "--no-wait")
    worker.apply(worker.edits.pending()[0])
    code, output, _ = ask("status")
    assert code == 0
    for part in ("test-model", "leader", "ready: stands in, r1", EIFFEL["prompt"], "applied"):
        assert part in output
    code, output, _ = ask("status", "--json")
    assert ModelStatus.model_validate_json(output).revision == 1


@pytest.mark.usefixtures("worker")
def test_a_problem_names_the_fields_on_stderr(ask: Run) -> None:
    code, output, errors = ask(*EDIT, "--hparam", "v_lr=fast", "--hparam", "speed=1")
    assert (code, output) == (1, "")
    assert "hparams.v_lr" in errors
    assert "speed" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("edit", "x", "--subject", "y", "--target-new", "z"), "subject: must occur in the prompt"),
        (("edit", "x", "--subject", "x", "--target-new", ""), "target_new: must not be empty"),
        (("edit", "x", "--subject", "x", "--target-new", "y", "--paraphrase", ""), "paraphrases[0]: must not be empty"),
        (("rollback", "minus one"), "to: must be a revision such as 3 or r3"),
        (("generate", "x", "--after", "tomorrow"), "after: must be base, head, or a revision"),
        (("status", "--url", "http://127.0.0.1:1"), "no server at http://127.0.0.1:1; start one with: palimpsest up"),
        (("status", "--url", "nowhere"), "There is no server at http://nowhere"),
        (("api",), "REDIS_URL is not set"),
        (("worker",), "REDIS_URL is not set"),
    ],
)
def test_what_cannot_be_done_is_said_plainly(run: Run, arguments: tuple[str, ...], message: str) -> None:
    code, output, errors = run(*arguments)
    assert (code, output) == (1, "")
    assert message in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "arguments",
    [
        ("edit",),
        ("edit", "x"),
        ("edit", "x", "--subject", "x"),
        ("edit", "--batch", "/no/such/file"),
        ("edit", "--batch", "/"),
        ("edit", "x", "--batch", cli.__file__),
        ("edit", "--target-true", "x", "--batch", cli.__file__),
        ("edit", "x", "--subject", "x", "--target-new", "z", "--hparam", "oops"),
        ("up", "--port", "99999"),
        ("up", "--device", "tpu"),
        ("up", "--dtype", "int3"),
        ("stats",),
        ("stats", "--layers", "4", "--method", "memit"),
        ("stats", "--layers", "4;5"),
        ("stats", "--layers", "4", "--source", "/etc/passwd"),
        ("stats", "--layers", "4", "--corpus", "nowhere"),
        ("fly",),
    ],
)
def test_wrong_usage_has_exit_code_2(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments)[0] == 2


def test_worker_becomes_the_worker(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environ = {**os.environ, "REDIS_URL": "redis://127.0.0.1:1"}
    became: list[list[str]] = []

    def become(_: str, command: list[str]) -> NoReturn:
        became.append(command)
        raise SystemExit

    monkeypatch.setattr(os, "environ", environ)
    monkeypatch.setattr(os, "execv", become)
    assert run("worker", "--model", f"{tmp_path}/", "--dtype", "float16")[0] == 0
    assert became == [[sys.executable, "-m", "worker"]]
    assert environ["PALIMPSEST_MODEL"] == str(tmp_path)
    assert (environ["PALIMPSEST_DTYPE"], environ["PALIMPSEST_DEVICE"]) == ("float16", "auto")


def test_stats_becomes_a_process_that_needs_no_redis(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environ = dict(os.environ)
    became: list[list[str]] = []

    def become(_: str, command: list[str]) -> NoReturn:
        became.append(command[1:])
        raise SystemExit

    monkeypatch.setattr(os, "environ", environ)
    monkeypatch.setattr(os, "execv", become)
    assert run("stats", "--layers", "4,5", "--tokens", "900", "--corpus", str(tmp_path))[0] == 0
    assert run("stats", "--method", "memit", "--source", "wikipedia")[0] == 0
    assert became == [
        ["-m", "worker.stats", "--layers=4,5", "--tokens=900", "--source=corpus"],
        ["-m", "worker.stats", "--method=memit", "--source=wikipedia"],
    ]
    assert environ["PALIMPSEST_CORPUS"] == str(tmp_path)
    assert "REDIS_URL" not in environ


def test_client_commands_start_without_the_web_framework_or_torch() -> None:
    code = (
        "import sys, json, service.cli; "
        "print(json.dumps([m for m in ('fastapi', 'uvicorn', 'torch', 'worker') if m in sys.modules]))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, cwd=Path(cli.__file__).parents[1]
    )
    assert json.loads(answer.stdout) == []
