"""The examples of a page: its blocks of code, which of them are run, and what each command shows.

A block is fenced: ```console with `$ ` before each command and its output below, ```sh of commands alone, or ```python.
In an indented block the same is told by how it begins. `<!-- not run: why -->` before a block, unseen by readers, says
that it is only checked.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

NOT_RUN = re.compile(r"<!--\s*not run:\s*(?P<why>.+?)\s*-->", re.DOTALL)
HEREDOC = re.compile(r"<<\s*'?(\w+)'?")
ASSIGNED = re.compile(r"[A-Z_]+=")
PROMPT = "$ "
PROGRAMS = ("palimpsest", "make", "curl", "python", "docker", "pip", "export", "source", "vllm")
SPOKEN = {"console": "console", "sh": "sh", "bash": "sh", "shell": "sh", "python": "python", "py": "python"}


@dataclass(frozen=True)
class Command:
    """A command as it is typed, its continuation lines with it, and the output that the page shows below."""

    typed: str
    shown: str


@dataclass(frozen=True)
class Example:
    """A block that a reader may run: console, sh or python. why_not: why it is not run here; None if it is."""

    page: str
    line: int
    language: str
    text: str
    why_not: str | None = None

    @property
    def commands(self) -> Sequence[Command]:
        """The shell's commands in it, in order."""
        return tuple(_typed(self.text, PROMPT if self.language == "console" else ""))


def examples(path: Path) -> list[Example]:
    """All examples of a page of Markdown."""
    return list(_examples(path.read_text(encoding="utf-8"), path.name))


def _examples(text: str, page: str) -> Iterator[Example]:
    why_not: str | None = None
    for token in MarkdownIt("commonmark").parse(text):
        if token.type == "html_block":
            marked = NOT_RUN.search(token.content)
            why_not = marked["why"] if marked else None
        elif token.type in {"fence", "code_block"}:
            language = SPOKEN.get(token.info, "") if token.type == "fence" else spoken(token.content)
            if language:
                yield Example(page, (token.map or [0])[0] + 1, language, token.content, why_not)
            why_not = None
        elif token.nesting == 0:
            why_not = None


def spoken(text: str) -> str:
    """The language of a block that does not name it; empty if it is no example."""
    begin = text.lstrip("\n").split("\n", 1)[0]
    if begin.startswith(PROMPT):
        return "console"
    if re.match(r"(from [\w.]+ )?import ", begin):
        return "python"
    words = [word for word in begin.split() if not ASSIGNED.match(word)]
    return "sh" if words and words[0].removeprefix(".venv/bin/") in PROGRAMS else ""


def _typed(text: str, prompt: str) -> Iterator[Command]:
    typed: list[str] = []
    shown: list[str] = []
    for line in text.splitlines():
        if typed and not whole("\n".join(typed)):
            typed.append(line)
        elif line.startswith(prompt) and line.strip():
            if typed:
                yield Command("\n".join(typed), "\n".join(shown))
            typed, shown = [line.removeprefix(prompt)], []
        else:
            shown.append(line)
    if typed:
        yield Command("\n".join(typed), "\n".join(shown))


def whole(command: str) -> bool:
    """Whether the shell would run it, rather than wait for more lines."""
    for end in HEREDOC.findall(command):
        if end not in command.split("\n")[1:]:
            return False
    if HEREDOC.search(command):
        return True
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return False
    return not command.endswith("\\")
