"""The command line: what it says of what went wrong, where, and with which exit code."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from service import cli
from service.commands.exits import Exit, exit_of
from service.contracts.model import WorkerState
from service.errors import ProblemError
from service.failures import refusal
from tests.service.conftest import Run
from tests.service.stand_in import EIFFEL, StandIn

EDIT = ("edit", EIFFEL["prompt"], "--subject", EIFFEL["subject"], "--target-new", EIFFEL["target_new"])
NOBODY = "http://127.0.0.1:1"
ROOT = Path(cli.__file__).parents[1]


@pytest.mark.usefixtures("worker")
def test_a_problem_names_the_fields_on_stderr(ask: Run) -> None:
    code, output, errors = ask(*EDIT, "--hparam", "v_lr=fast", "--hparam", "speed=1")
    assert (code, output) == (Exit.USAGE, "")
    assert "hparams.v_lr" in errors
    assert "speed" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("edit", "x", "--subject", "y", "--target-new", "z"), 2, "subject: must occur in the prompt"),
        (("edit", "x", "--subject", "x", "--target-new", ""), 2, "target_new: must not be empty"),
        ((*EDIT, "--paraphrase", ""), 2, "paraphrases[0]: must not be empty"),
        (("rollback", "minus one"), 2, "to: must be a revision such as 3 or r3"),
        (("generate", "x", "--after", "tomorrow"), 2, "after: must be base, head, or a revision"),
        (("status", "--server", NOBODY), 3, f"no server at {NOBODY}; start one with: palimpsest up"),
        ((*EDIT, "--server", NOBODY), 3, f"no server at {NOBODY}; start one with: palimpsest up"),
        (("status", "--server", "nowhere.invalid"), 3, "There is no server at http://nowhere.invalid"),
        (("status", "--server", "ftp://here"), 2, "'ftp://here' is not the URL of a server"),
        (("api",), 1, "REDIS_URL is not set"),
        (("worker",), 1, "REDIS_URL is not set"),
    ],
)
def test_what_cannot_be_done_is_said_plainly(run: Run, arguments: tuple[str, ...], code: int, message: str) -> None:
    ended, output, errors = run(*arguments)
    assert (ended, output) == (code, "")
    assert message in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "arguments",
    [
        ("edit",),
        ("edit", "x"),
        ("edit", "x", "--subject", "x"),
        ("batch",),
        ("batch", "/no/such/file"),
        ("batch", "/"),
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


def test_client_commands_start_without_the_web_framework_or_torch() -> None:
    code = (
        "import sys, json, service.cli; "
        "print(json.dumps([m for m in ('fastapi', 'uvicorn', 'torch', 'worker', 'redis') if m in sys.modules]))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT)
    assert json.loads(answer.stdout) == []


def test_a_server_that_is_not_ready_can_be_told_from_one_that_says_no(ask: Run, worker: StandIn) -> None:
    worker.heartbeat(WorkerState.STARTING)
    for command in (("generate", "x"), ("rollback", "r0")):
        code, output, errors = ask(*command)
        assert (code, output) == (Exit.UNAVAILABLE, ""), errors
    assert ask("show", "r99")[0] == Exit.NOT_FOUND
    assert ask("revert", "0123456789abcdef")[0] == Exit.NOT_FOUND
    code, _, errors = ask(*EDIT, "--base-revision", "r7")
    assert code == Exit.CONFLICT
    assert "the head is r0" in errors


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, 6), (403, 6), (404, 4), (409, 5), (422, 2), (429, 3), (500, 1), (502, 1), (503, 3), (504, 1), (599, 1)],
)
def test_each_refusal_has_its_exit_code(status: int, code: int) -> None:
    assert exit_of(refusal(ProblemError(status, "some-name", "No.").problem)) == code


def test_help_lists_every_command_and_the_exit_codes(run: Run) -> None:
    code, output, _ = run("--help")
    assert code == 0
    for name in ("edit", "batch", "generate", "chat", "log", "show", "revert", "reapply", "rollback", "bench", "trace"):
        assert re.search(rf"^│ {name} ", output, re.MULTILINE), name
    for words in (
        "stats",
        "export",
        "methods",
        "status",
        "0 done; 1 failed",
        "PALIMPSEST_API_KEY",
        "--install-completion",
    ):
        assert words in output, words


@pytest.mark.usefixtures("worker")
def test_a_pipe_that_closes_early_is_no_traceback(server_url: str, redis: Redis) -> None:
    assert redis.ping()
    command = f"{sys.executable} -m service.cli methods --json --server {server_url} | true"
    answer = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False, cwd=ROOT)
    assert "Traceback" not in answer.stderr
