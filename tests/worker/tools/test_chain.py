"""An entry that cannot follow those before it is told, and what comes before it still counts."""

import re
from typing import Any

import pytest

from tests.worker.engine.kit import Stand
from tests.worker.tools.kit import varied
from worker.tools.chain import sound_part


@pytest.fixture
def entries(stand: Stand) -> list[dict[str, Any]]:
    """r1 r2 r3 edits, r4 to r1, r5 an edit, r6 without the first, r7 with it again, r8 to r3."""
    varied(stand)
    return [entry.model_dump(mode="json") for entry in stand.ledger.entries()]


def test_what_a_worker_wrote_is_sound(entries: list[dict[str, Any]]) -> None:
    lines, flaw = sound_part(entries)
    assert flaw is None
    assert [entry.model_dump(mode="json") for entry in lines.entries] == entries
    assert sound_part([])[1] is None


@pytest.mark.parametrize(
    ("at", "changes", "said"),
    [
        (0, {"kind": "edit", "edit": "e", "blob": "b"}, "r0: its kind is edit"),
        (3, {"kind": "base", "edit": None, "blob": None}, "r3: its kind is base"),
        (3, {"parent": 1}, "r3: there stands r3 with the parent 1"),
        (3, {"revision": 4}, "r3: there stands r4 with the parent 2"),
        (3, {"blob": None}, "r3: edits have a blob, and nothing else has"),
        (4, {"blob": "b"}, "r4: edits have a blob, and nothing else has"),
        (3, {"edit": None}, "r3: edit None cannot be committed here"),
        (3, {"to": 0}, "r3: rollbacks name a revision, and nothing else does"),
        (4, {"to": None}, "r4: rollbacks name a revision, and nothing else does"),
        (4, {"to": 4}, "r4: it goes back to r4"),
        (4, {"to": -1}, "r4: it goes back to r-1"),
        (4, {"to": 2}, "r4: its checksum is not that of r2"),
        (6, {"edit": "another"}, "r6: edit another is not in force"),
        (6, {"kind": "reapply"}, r"r6: edit \w+ cannot be put back"),
        (7, {"edit": "another"}, "r7: edit another cannot be put back"),
        (7, {"kind": "revert"}, r"r7: edit \w+ is not in force"),
        (2, {"checksum": None}, "r2: checksum: Input should be a valid string"),
        (2, {"new": 1}, "r2: new: Extra inputs are not permitted"),
    ],
)
def test_a_flaw_is_told(entries: list[dict[str, Any]], at: int, changes: dict[str, Any], said: str) -> None:
    entries[at] |= changes
    lines, flaw = sound_part(entries)
    assert flaw is not None
    assert re.match(said, flaw), flaw
    assert len(lines.entries) == at


@pytest.mark.parametrize("at", [0, 3, 7])
def test_a_gap_is_told(entries: list[dict[str, Any]], at: int) -> None:
    del entries[at]
    lines, flaw = sound_part(entries)
    assert (flaw or "").startswith(f"r{at}: there stands r{at + 1}")
    assert len(lines.entries) == at


def test_an_edit_is_committed_once(entries: list[dict[str, Any]]) -> None:
    entries[3]["edit"] = entries[1]["edit"]
    assert "cannot be committed here" in str(sound_part(entries)[1])
