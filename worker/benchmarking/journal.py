"""What a benchmark has found so far, in a folder: its records, and a line of JSON for each unit that is done."""

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from service.contracts.benchmarks import Checkpoint, RecordOutcome
from service.contracts.records import Record
from service.contracts.scores import Drift
from worker.benchmarking.plan import Unit
from worker.engine.blobs import BlobStore
from worker.engine.folder import Folder

log = logging.getLogger(__name__)

RECORDS, LINES, DELTAS = "records.json", "results.jsonl", "deltas"


class Kept(BaseModel):
    """A value of the journal."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Chosen(Kept):
    """The records of a benchmark, in the order in which they are edited.

    available: how many could have been chosen; faults: why others could not.
    """

    records: tuple[Record, ...]
    available: int
    faults: tuple[str, ...] = ()


class Line(Kept):
    """What came of one unit.

    outcomes: by the record's place among the chosen; seconds: of the edit alone; timings: of everything, by phase;
    blob: the delta's, which the next edits of a sequence are made on.
    """

    method: int
    index: int
    outcomes: dict[int, RecordOutcome] = {}
    seconds: float = 0.0
    timings: dict[str, float] = {}
    drift: Drift | None = None
    checkpoint: Checkpoint | None = None
    blob: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def took(self) -> bool:
        """Whether it is of an edit that did not fail."""
        return self.seconds > 0

    @property
    def key(self) -> tuple[int, int]:
        """The unit that it is of."""
        return self.method, self.index


class Journal:
    """One benchmark's folder. What a killed worker has left half written is not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.deltas = BlobStore(folder / DELTAS)

    def chosen(self) -> Chosen | None:
        """The records, if they have been chosen."""
        content = Folder.at(self._folder).read(RECORDS)
        return None if content is None else Chosen.model_validate_json(content)

    def choose(self, chosen: Chosen) -> None:
        """Write the records down, whole or not at all."""
        Folder.at(self._folder).write(RECORDS, chosen.model_dump_json(exclude_defaults=True).encode())

    def lines(self) -> Mapping[tuple[int, int], Line]:
        """The units that are done; a line that was not written to its end is cut off."""
        path = self._folder / LINES
        if not path.exists():
            return {}
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            log.warning("the last line of %s was cut off; its edit is made again", path)
            os.truncate(path, len(whole))
        found = [Line.model_validate_json(line) for line in whole.splitlines()]
        return {line.key: line for line in found}

    def append(self, line: Line) -> None:
        """Write down what came of a unit; it is on disk when this returns. Raises StorageError."""
        folder = Folder.at(self._folder)
        with folder.telling("written"), (self._folder / LINES).open("ab") as file:
            file.write(line.model_dump_json(exclude_defaults=True).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def drop_deltas(self) -> None:
        """Delete the deltas; what was found stays."""
        shutil.rmtree(self._folder / DELTAS, ignore_errors=True)


def open_journal(root: Path, benchmark_id: str) -> Journal:
    """The journal of a benchmark; others' deltas go, since one that was interrupted is always first in line."""
    for folder in root.glob(f"*/{DELTAS}"):
        if folder.parent.name != benchmark_id:
            shutil.rmtree(folder, ignore_errors=True)
    return Journal(root / benchmark_id)


def line_of(unit: Unit, **found: object) -> Line:
    """What came of this unit."""
    return Line.model_validate({"method": unit.method, "index": unit.index, **found})
