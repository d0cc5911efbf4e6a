"""What was written down is read again, whole lines only; deltas of other benchmarks are swept away."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.contracts.records import Record
from tests.families import tiny_model
from tests.worker.benchmarking.kit import RECORDS
from tests.worker.engine.kit import random_delta
from worker.benchmarking.journal import Chosen, Journal, Line, open_journal
from worker.errors import StorageError

LINES = [Line(method=0, index=at, seconds=at + 0.5, timings={"value": 1.0}) for at in range(3)]


def test_records_and_lines_are_read_as_they_were_written(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, "b1")
    assert (journal.chosen(), journal.lines()) == (None, {})
    chosen = Chosen(records=tuple[Record, ...](RECORDS), available=9, faults=("record 3: bad",))
    journal.choose(chosen)
    for line in LINES:
        journal.append(line)
    again = open_journal(tmp_path, "b1")
    assert again.chosen() == chosen
    assert again.lines() == {line.key: line for line in LINES}


@given(cut=st.integers(0, 200))
def test_a_line_that_was_cut_off_is_not_there_and_the_next_begins_anew(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder)
    journal.choose(Chosen(records=(RECORDS[0],), available=1))
    for line in LINES:
        journal.append(line)
    path = folder / "results.jsonl"
    content = path.read_bytes()[:cut]
    path.write_bytes(content)
    whole = content.count(b"\n")
    assert list(journal.lines().values()) == LINES[:whole]
    journal.append(LINES[2])
    assert list(journal.lines().values())[-1] == LINES[2]


def test_deltas_of_other_benchmarks_are_deleted_and_nothing_else(tmp_path: Path) -> None:
    delta = random_delta(tiny_model("llama"))
    first, second = open_journal(tmp_path, "b1"), open_journal(tmp_path, "b2")
    for journal in (first, second):
        journal.choose(Chosen(records=(RECORDS[0],), available=1))
        blob = journal.deltas.put(delta)
    again = open_journal(tmp_path, "b2")
    assert again.deltas.get(blob).layers.keys() == delta.layers.keys()
    assert sorted(path.name for path in (tmp_path / "b1").iterdir()) == ["records.json"]
    again.drop_deltas()
    assert sorted(path.name for path in (tmp_path / "b2").iterdir()) == ["records.json"]


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "gone")
    with pytest.raises(StorageError, match="cannot be written"):
        journal.append(LINES[0])
