"""A notebook as a page: its cells and what they printed, in Markdown."""

from pathlib import Path
from typing import Any

import nbformat

FENCE = "````"
"""Longer than any fence that a cell may hold."""


def page(path: Path) -> str:
    """Markdown of all cells, with the outputs that are kept in the file."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call] # it has no annotations
    lines: list[str] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            lines += [cell.source, ""]
        elif cell.cell_type == "code":
            lines += [f"{FENCE}python", cell.source, FENCE, ""]
            lines += [line for output in cell.outputs for line in _output(output)]
    return "\n".join(lines)


def _output(output: Any) -> list[str]:
    """What a cell printed, or the value of its last line; pictures and tables of HTML as they are."""
    data = output.get("data", {})
    if "text/html" in data:
        return [f'<div class="output">{data["text/html"]}</div>', ""]
    if "image/png" in data:
        return [f'<img alt="what the cell drew" src="data:image/png;base64,{data["image/png"].strip()}">', ""]
    text = data.get("text/plain") or output.get("text", "")
    return ['<div class="output" markdown>', "", f"{FENCE}text", text.rstrip("\n"), FENCE, "", "</div>", ""]
