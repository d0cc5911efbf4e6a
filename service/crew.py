"""The workers that `up` keeps running: how many there are, and when one that ended is started again."""

import time
from collections.abc import Callable, Sequence

from service.children import Child
from service.claims import UpError

AGAIN = {6: "it was silent too long and lost its lease", 8: "its GPU could compute nothing more"}
"""Exit codes of a worker after which a new process may do better, and what they mean; worker/errors.py has them all."""

MOST_ENDS = 5
WINDOW_SECONDS = 300.0
"""A worker that ends so often within so long is not started again."""

LONGEST_SECONDS = 30.0
"""The longest pause before a worker is started again; the first is a second."""


class Backoff:
    """How long a worker that ended waits until it is started again: 1, 2, 4 ... 30 s.

    now: the clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._ends: list[float] = []
        self._in_a_row = 0

    def pause(self) -> float | None:
        """The pause after the end of this moment, in seconds; None if there were too many of late."""
        now = self._now()
        self._ends = [end for end in self._ends if now - end < WINDOW_SECONDS]
        self._in_a_row = self._in_a_row + 1 if self._ends else 1
        self._ends.append(now)
        if len(self._ends) >= MOST_ENDS:
            return None
        return min(LONGEST_SECONDS, 2.0 ** (self._in_a_row - 1))


class Member:
    """One of the workers. child: None while it is not running; due: when it is to be started."""

    def __init__(self, name: str, now: Callable[[], float]) -> None:
        self.name = name
        self.child: Child | None = None
        self.due: float | None = now()
        self.backoff = Backoff(now)

    @property
    def runs(self) -> bool:
        """Whether its process lives."""
        return self.child is not None and self.child.ended is None


class Crew:
    """The workers of one `up`. Must be used on the main thread, as every child.

    start: starts a worker of that name; say: tells the person who watches.
    """

    def __init__(
        self,
        count: int,
        start: Callable[[str], Child],
        say: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start = start
        self._say = say
        self._now = now
        names = ("worker",) if count == 1 else tuple(f"worker {number + 1}" for number in range(count))
        self._members = [Member(name, now) for name in names]

    @property
    def children(self) -> Sequence[Child]:
        """Those whose processes were started and not yet replaced."""
        return [member.child for member in self._members if member.child is not None]

    def look(self) -> None:
        """Start those that are due and note those that have ended; UpError if to go on would be no use."""
        for member in self._members:
            if member.child is not None and not member.runs:
                self._ended(member, member.child)
        for member in self._members:
            if member.due is not None and self._now() >= member.due:
                member.due, member.child = None, self._start(member.name)

    def _ended(self, member: Member, child: Child) -> None:
        member.child = None
        others = [other.name for other in self._members if other.runs]
        means = AGAIN.get(child.exit_code or 0)
        if not others and means is None:
            raise UpError(f"{child.title} ended by itself ({child.ended}), so the others were stopped.")
        how = f"{child.ended}: {means}" if means else child.ended
        pause = member.backoff.pause()
        if pause is not None:
            member.due = self._now() + pause
            self._say(f"{child.title} ended ({how}); it is started again in {pause:.0f} s.")
        elif others:
            goes_on = f"{' and '.join(others)} {'goes' if len(others) == 1 else 'go'} on without it"
            self._say(f"{child.title} ended ({how}), too often to be started again; {goes_on}.")
        else:
            minutes = WINDOW_SECONDS / 60
            raise UpError(
                f"{child.title} ended {MOST_ENDS} times within {minutes:.0f} minutes, at last with {how}, "
                "so the others were stopped."
            )
