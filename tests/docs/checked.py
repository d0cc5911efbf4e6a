"""Checking commands without running them: that the program, its options and its arguments exist."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer

from service.cli import app

ROOT = Path(__file__).parents[2]


def check(command: str) -> None:
    """Raise AssertionError, or click's UsageError, if the command cannot be typed so."""
    words = shlex.split(command.replace("\\\n", " "), comments=True)  # as a shell joins lines
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    match words:
        case ["palimpsest", *arguments]:
            parse(arguments)
        case ["make", target, *_]:
            assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command
        case ["python", "-m", module, *arguments]:
            _check_module(module, arguments)


def parse(arguments: list[str]) -> None:
    """Parse the arguments of `palimpsest` as it would, down to its command's; nothing is run."""
    group: Any = typer.main.get_command(app)
    context = group.context_class(group, info_name="palimpsest")
    while hasattr(group, "resolve_command"):
        name, command, arguments = group.resolve_command(context, arguments)
        if not hasattr(command, "resolve_command"):
            command.make_context(name, list(arguments), parent=context)
        group, context = command, command.context_class(command, info_name=name, parent=context)


def _check_module(module: str, arguments: list[str]) -> None:
    assert find_spec(module) is not None, module
    sources = "".join(path.read_text() for path in (ROOT / module.split(".", maxsplit=1)[0]).glob("*.py"))
    for argument in arguments:
        if argument.startswith("--"):
            assert f'"{argument}"' in sources, f"{module} has no option {argument}"
