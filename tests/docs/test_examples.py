"""Every example of the documentation: it runs on a real stack, or is marked as not run and at least parsed."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.docs.checked import ROOT, check
from tests.docs.conftest import FACTS, LONG, SECONDS, Stack
from tests.docs.examples import Example, examples
from tests.docs.shell import Page

PAGES = {path.stem: examples(path) for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))}
RUN = [name for name, found in PAGES.items() if any(example.why_not is None for example in found)]
NOT_RUN = [example for found in PAGES.values() for example in found if example.why_not is not None]


@pytest.fixture
def folder(tmp_path: Path, stack: Stack) -> Path:
    """A working directory that has what the pages speak of: a file of facts, the environment, the model."""
    (tmp_path / "facts.jsonl").write_text("".join(json.dumps(fact) + "\n" for fact in FACTS))
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "models").symlink_to(stack.data / "models")
    return tmp_path


@pytest.fixture
def page(stack: Stack, folder: Path) -> Iterator[Page]:
    """A page of its own, at r2; what it leaves to be done is cancelled."""
    stack.tidy()
    yield Page(stack, folder)
    stack.tidy()


@pytest.mark.real
@pytest.mark.parametrize("name", RUN)
def test_the_examples_of_a_page_run(name: str, page: Page) -> None:
    for example in PAGES[name]:
        if example.why_not is not None:
            continue
        if example.language == "python":
            page.python(example.text, f"{example.page}:{example.line}")
        else:
            page.shell(example.commands)
        page.stack.cancel(*LONG)


@pytest.mark.parametrize("example", NOT_RUN, ids=lambda example: f"{example.page}:{example.line}")
def test_what_is_not_run_could_be_typed_so(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    (tmp_path / "wikipedia_paragraphs.txt").touch()
    if example.language == "python":
        compile(example.text, f"{example.page}:{example.line}", "exec")
        return
    assert example.commands
    for command in example.commands:
        check(command.typed)


def _lines(notebook: Any) -> list[int]:
    """How many lines each cell printed."""
    return [sum(output.get("text", "").count("\n") for output in cell.get("outputs", ())) for cell in notebook.cells]


@pytest.mark.real
def test_the_notebook_runs_and_prints_as_much_as_it_shows(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_SERVER", page.stack.url)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shown = nbformat.read(ROOT / "docs" / "tutorial.ipynb", as_version=4)  # type: ignore[no-untyped-call] # it has no annotations
    ran = nbformat.from_dict(shown)  # type: ignore[no-untyped-call]
    resources = {"metadata": {"path": str(page.folder)}}
    client = NotebookClient(ran, timeout=int(SECONDS), kernel_name="python3", resources=resources)
    client.execute()
    assert sum(_lines(shown)) > 50
    assert _lines(ran) == _lines(shown)
