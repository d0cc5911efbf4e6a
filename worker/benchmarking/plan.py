"""What a benchmark does with each method, edit by edit, and how long the rest of it will take."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from service.contracts.benchmarks import BenchmarkRequest, Mode


@dataclass(frozen=True)
class Unit:
    """One edit with its scores; of a sequence, one edit or one checkpoint.

    index: among the method's units; begin, end: the records that it edits, or scores.
    """

    method: int
    index: int
    begin: int
    end: int
    edits: bool
    scores: bool

    @property
    def size(self) -> int:
        """How many records it is about."""
        return self.end - self.begin


def units_of(request: BenchmarkRequest, method: int, records: int) -> list[Unit]:
    """One method's units, in their order."""
    size = request.size(records)
    groups = [(begin, min(begin + size, records)) for begin in range(0, records, size)]
    if request.mode is not Mode.SEQUENTIAL:
        return [Unit(method, at, begin, end, edits=True, scores=True) for at, (begin, end) in enumerate(groups)]
    looks = _checkpoints(len(groups), request.checkpoints)
    units: list[Unit] = []
    for number, (begin, end) in enumerate(groups, 1):
        units.append(Unit(method, len(units), begin, end, edits=True, scores=False))
        if number in looks:
            units.append(Unit(method, len(units), 0, end, edits=False, scores=True))
    return units


def _checkpoints(edits: int, wanted: int) -> set[int]:
    """After how many edits it is scored: at even distances, and at the end."""
    count = min(wanted, edits)
    return {round(edits * number / count) for number in range(1, count + 1)}


class Clock:
    """Tells from the units that are done how long the others will take, method by method."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self._left = {(unit.method, unit.index): unit for unit in units}
        self._spent: dict[tuple[int, bool], tuple[float, int]] = {}
        self.steps = sum(unit.size for unit in units if unit.edits)

    def done(self, unit: Unit, seconds: float) -> None:
        """A unit is over, and took so long."""
        self._left.pop((unit.method, unit.index), None)
        spent, size = self._spent.get(key := (unit.method, unit.edits), (0.0, 0))
        self._spent[key] = spent + seconds, size + unit.size

    @property
    def step(self) -> int:
        """Records that have been edited, with whichever method."""
        return self.steps - sum(unit.size for unit in self._left.values() if unit.edits)

    @property
    def seconds_left(self) -> float | None:
        """What is left at the pace so far; what was never done yet is taken to be as fast as with the other methods."""
        if not self._spent:
            return None
        return sum(unit.size * self._pace(unit) for unit in self._left.values())

    def _pace(self, unit: Unit) -> float:
        """Seconds for a record."""
        own = self._spent.get((unit.method, unit.edits))
        known = [own] if own else list(self._alike(unit))
        return sum(spent for spent, _ in known) / max(1, sum(size for _, size in known))

    def _alike(self, unit: Unit) -> Iterator[tuple[float, int]]:
        return (value for (_, edits), value in self._spent.items() if edits == unit.edits)
