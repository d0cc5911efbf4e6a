"""Runs the rows of many prompts on both sides at once, in padded batches, each row that others are like only once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from worker.editing.progress import Step, Steps
from worker.models.loaded import LoadedModel
from worker.models.memory import MOST_TOKENS
from worker.models.positions import Row
from worker.models.reads import Read, read_rows

SidesView = Callable[[int], AbstractContextManager[None]]
"""Of n: a view under which rows 0..n-1 of a batch see the base and rows n..2n-1 the edited weights."""

Reads = Mapping[int, Read]
"""What the model says at the rows, by their index."""


def read_sides(loaded: LoadedModel, rows: Sequence[Row], sides_view: SidesView) -> Steps[tuple[Reads, Reads]]:
    """What the base says, and what the edited weights say."""
    before: dict[int, Read] = {}
    after: dict[int, Read] = {}
    for chunk in _chunks(loaded, _merged(rows)):
        run = [merged.row for merged in chunk]
        with sides_view(len(run)):
            reads = read_rows(loaded, [*run, *run])
        for side, found in ((before, reads[: len(run)]), (after, reads[len(run) :])):
            side |= {index: part for merged, read in zip(chunk, found, strict=True) for index, part in merged.of(read)}
        yield Step("measure", len(before), len(rows))
    return before, after


@dataclass(frozen=True)
class _Merged:
    """Rows with the same tokens, run as one; `members` are their indices and how much each reads."""

    row: Row
    members: tuple[tuple[int, int], ...]

    def of(self, read: Read) -> Iterator[tuple[int, Read]]:
        """What each member reads."""
        at = 0
        for index, reads in self.members:
            span = slice(at, at + reads)
            yield index, Read(read.logprobs[span], read.ranks[span], read.argmax[span])
            at += reads


def _merged(rows: Sequence[Row]) -> list[_Merged]:
    """Targets of one token leave a prompt's rows alike, so most prompts run once instead of twice; shortest first."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for index, row in enumerate(rows):
        alike.setdefault(row.ids, []).append(index)
    found = []
    for ids, members in sorted(alike.items(), key=lambda item: len(item[0])):
        reads = tuple(at for index in members for at in rows[index].reads)
        # Where there is no target to look up, any token serves.
        targets = tuple(token for index in members for token in (rows[index].targets or (0,)))
        found.append(_Merged(Row(ids, 0, reads, targets), tuple((index, len(rows[index].reads)) for index in members)))
    return found


def _chunks(loaded: LoadedModel, rows: Sequence[_Merged]) -> Iterator[list[_Merged]]:
    """As many rows as are worth one step, each to be run once a side."""
    most = MOST_TOKENS.get(loaded.device.type, MOST_TOKENS["cpu"])
    chunk: list[_Merged] = []
    for merged in rows:
        if chunk and 2 * (len(chunk) + 1) * len(merged.row.ids) > most:
            yield chunk
            chunk = []
        chunk.append(merged)
    yield chunk
