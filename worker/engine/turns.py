"""Whose row joins the batch next: interactive ones before those in the background, and clients by turns."""

from collections import Counter, deque
from collections.abc import Iterable

from service.contracts.generate import Priority
from worker.engine.asked import Asked
from worker.engine.row import Row

Waiter = tuple[Priority, str]
"""Rows of one priority and one client wait in one line."""


class Turns:
    """Rows that wait to join the batch, and those that are in it.

    most_rows: those that may be in it together; the background has at most half of them, so that whoever asks next
    finds room.
    """

    def __init__(self, most_rows: int) -> None:
        self._most_rows = most_rows
        self._waiting: dict[Waiter, deque[Row]] = {}
        self._joined: dict[int, Waiter] = {}

    def enter(self, asked: Asked) -> None:
        """Let a request's rows wait."""
        self._waiting.setdefault((asked.body.priority, asked.body.client), deque()).extend(asked.rows)

    def next(self) -> Row | None:
        """The row that is to join next; None if there is none, or no room. It waits on until `join` is called.

        It is of the client that has fewest in the batch; among equals, of the one that has waited longest.
        """
        if len(self._joined) >= self._most_rows:
            return None
        waiter = self._first(Counter(self._joined.values()))
        return None if waiter is None else self._waiting[waiter][0]

    def join(self, row: Row) -> None:
        """The row that `next` has named is in the batch now."""
        waiter = next(waiter for waiter, line in self._waiting.items() if line[0] is row)
        self._joined[id(row)] = waiter
        line = self._waiting.pop(waiter)
        line.popleft()
        if line:
            self._waiting[waiter] = line  # behind the others: among equals they have waited longer now

    def leave(self, rows: Iterable[Row]) -> None:
        """Forget rows that have ended, or that nobody wants any more, whether they have joined or not."""
        gone = set(map(id, rows))
        self._joined = {key: waiter for key, waiter in self._joined.items() if key not in gone}
        left = {waiter: deque(row for row in line if id(row) not in gone) for waiter, line in self._waiting.items()}
        self._waiting = {waiter: line for waiter, line in left.items() if line}

    def _first(self, joined: Counter[Waiter]) -> Waiter | None:
        behind = sum(count for (priority, _), count in joined.items() if priority is Priority.BACKGROUND)
        full = behind >= max(1, self._most_rows // 2)
        allowed = [waiter for waiter in self._waiting if not (full and waiter[0] is Priority.BACKGROUND)]
        return min(allowed, key=lambda waiter: (waiter[0] is Priority.BACKGROUND, joined[waiter]), default=None)
