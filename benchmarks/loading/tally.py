"""What a load run counts: how long each kind of request took, what was refused, what failed, and what was wrong."""

import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

PERCENTILES = (50, 95, 99)
SLICES = 20
"""Of a run, each of which has its own percentiles in `over_time`."""

MOST_SHOWN = 20
"""Wrong answers that are told in words."""


class Taken(NamedTuple):
    """When a request was answered, in seconds of the run, and how long that took."""

    at: float
    seconds: float


class Tally:
    """Counts for all clients at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begin = time.perf_counter()
        self._taken: dict[str, list[Taken]] = defaultdict(list)
        self._refused = Counter[str]()
        self._errors = Counter[str]()
        self._wrong: list[str] = []

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self._begin

    @contextmanager
    def timed(self, kind: str) -> Iterator[None]:
        """Note how long a request takes; one that raises is not among those that were answered."""
        begin = time.perf_counter()
        yield
        self.took(kind, time.perf_counter() - begin)

    def took(self, kind: str, seconds: float) -> None:
        """Note a request that was answered just now."""
        with self._lock:
            self._taken[kind].append(Taken(self.elapsed, seconds))

    def refused(self, why: str) -> None:
        """Note a refusal that is as it should be."""
        with self._lock:
            self._refused[why] += 1

    def error(self, why: str) -> None:
        """Note that the service said that it could not, though the request was as it should be."""
        with self._lock:
            self._errors[why] += 1
        self._tell(f"error: {why}")

    def wrong(self, what: str) -> None:
        """Note, and tell at once, an answer that is not as it should be."""
        with self._lock:
            self._wrong.append(f"{self.elapsed:.1f} s: {what}")
        self._tell(f"WRONG: {what}")

    def tell(self, since: float) -> None:
        """Say how it goes: what was answered after so many seconds of the run, and how long the slowest of it took."""
        with self._lock:
            recent = [(one.seconds, kind) for kind, taken in self._taken.items() for one in taken if one.at > since]
            edits, wrong = len(self._taken.get("edit", ())), len(self._wrong)
        slowest, kind = max(recent, default=(0.0, "none"))
        self._tell(f"{edits} edits, {wrong} wrong, {len(recent)} requests since, at most {slowest:.1f} s ({kind})")

    def _tell(self, what: str) -> None:
        print(f"{self.elapsed:.0f} s: {what}", file=sys.stderr, flush=True)

    @property
    def wrongs(self) -> tuple[str, ...]:
        """All that was wrong."""
        with self._lock:
            return tuple(self._wrong)

    def count(self, kind: str) -> int:
        """How many of a kind were answered."""
        with self._lock:
            return len(self._taken.get(kind, ()))

    def missing(self, kinds: Iterable[str]) -> set[str]:
        """Those kinds that nobody has been answered yet."""
        with self._lock:
            return set(kinds) - self._taken.keys()

    def figures(self, seconds: float) -> dict[str, Any]:
        """Counts, rates and milliseconds by kind of a run that took so long."""
        with self._lock:
            kinds = {kind: _latency(taken, seconds) for kind, taken in sorted(self._taken.items())}
            over_time = {kind: _sliced(taken, seconds) for kind, taken in sorted(self._taken.items())}
            return {
                "requests": sum(found["count"] for found in kinds.values()),
                "requests_per_second": sum(found["per_second"] for found in kinds.values()),
                "kinds": kinds,
                "refused": dict(sorted(self._refused.items())),
                "errors": dict(sorted(self._errors.items())),
                "wrong": len(self._wrong),
                "wrongs": self._wrong[:MOST_SHOWN],
                "over_time": over_time,
            }


def _latency(taken: list[Taken], seconds: float) -> dict[str, float]:
    spent = [1e3 * one.seconds for one in taken]
    found = dict(zip((f"p{percent}_ms" for percent in PERCENTILES), _percentiles(spent), strict=True))
    return {"count": len(spent), "per_second": len(spent) / seconds, **found, "max_ms": max(spent)}


def _sliced(taken: list[Taken], seconds: float) -> list[dict[str, float]]:
    """Median and 95th percentile in each slice of the run in which anything was answered."""
    slices: dict[int, list[float]] = defaultdict(list)
    for one in taken:
        slices[min(int(SLICES * one.at / seconds), SLICES - 1)].append(1e3 * one.seconds)
    found = []
    for number, spent in sorted(slices.items()):
        p50, p95, _ = _percentiles(spent)
        found.append({"seconds": (number + 0.5) * seconds / SLICES, "p50_ms": p50, "p95_ms": p95})
    return found


def _percentiles(values: list[float]) -> list[float]:
    return [float(value) for value in np.percentile(values, PERCENTILES)]
