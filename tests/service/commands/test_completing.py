"""What a shell completes, asked as bash asks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service import cli
from tests.service.stand_in import StandIn, queue_edit

ROOT = Path(cli.__file__).parents[1]


def complete(words: str, server: str) -> list[str]:
    """What follows the last of these words."""
    count = len(words.split()) - (not words.endswith(" "))
    asked = {"_PALIMPSEST_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    environ = {**os.environ, **asked, "PALIMPSEST_SERVER": server}
    code = "import sys; sys.argv = ['palimpsest']; from service.cli import app; app(prog_name='palimpsest')"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT, env=environ
    )
    assert answer.stderr == ""
    return answer.stdout.split()


def test_revisions_ids_and_methods_are_completed(worker: StandIn, server_url: str) -> None:
    edit = queue_edit(worker.edits).id
    worker.apply(edit)
    assert complete("palimpsest generate x --after ", server_url) == ["base", "head", "r1", "r0"]
    assert complete("palimpsest rollback r", server_url) == ["r1", "r0"]
    assert complete(f"palimpsest revert {edit[:3]}", server_url) == [edit]
    assert complete("palimpsest bench --method ro", server_url) == ["rome"]
    assert complete(f"palimpsest watch {edit[:3]}", "http://127.0.0.1:1") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(shell: str) -> None:
    environ = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [
        sys.executable,
        "-c",
        "from service.cli import app; app(prog_name='palimpsest')",
        "--show-completion",
        shell,
    ]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environ)
    assert answer.returncode == 0
    assert "_PALIMPSEST_COMPLETE" in answer.stdout
