"""The memory that a server's processes take, over time."""

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import psutil

ROLES = {"worker": ("-m", "worker"), "api": ("service.cli", "api"), "valkey": ("valkey-server",)}
"""Words of a process' command line."""

MEGABYTE = 1e6


class MemoryWatch(threading.Thread):
    """Looks every few seconds until it is stopped.

    pid: of `palimpsest up`, whose children are looked at; every: seconds.
    """

    def __init__(self, pid: int, every: float) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self._every = every
        self._over = threading.Event()
        self._begin = time.perf_counter()
        self.samples: list[dict[str, float]] = []

    def run(self) -> None:
        """Take samples: seconds since the start, and megabytes of each role."""
        while True:
            self.samples.append({"seconds": time.perf_counter() - self._begin, **resident(self._process)})
            if self._over.wait(self._every):
                return

    def stop(self) -> None:
        """Take no further sample."""
        self._over.set()
        self.join()


def resident(server: psutil.Process) -> dict[str, float]:
    """Megabytes (1e6 bytes) of resident memory by role; what has just ended counts as nothing."""
    found = dict.fromkeys(ROLES, 0.0)
    for child in server.children(recursive=True):
        try:
            command, bytes_ = " ".join(child.cmdline()), child.memory_info().rss
        except psutil.NoSuchProcess:
            continue
        for role, words in ROLES.items():
            if " ".join(words) in command:
                found[role] += bytes_ / MEGABYTE
                break
    return found


def memory_figures(samples: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Of each role first, last and peak in MB, and MB/min of a straight line through the second half of the time."""
    return {role: _figures([(one["seconds"], one[role]) for one in samples]) for role in ROLES}


def growth(samples: Sequence[dict[str, float]], role: str) -> float:
    """A role's mean over the last tenth of the samples, over that of the tenth that follows the first quarter."""
    values = [one[role] for one in samples]
    width = max(1, len(values) // 10)
    begin = len(values) // 4
    return float(np.mean(values[-width:]) / np.mean(values[begin : begin + width]))


def _figures(points: list[tuple[float, float]]) -> dict[str, Any]:
    values = [value for _, value in points]
    minutes, later = np.array([(at / 60, value) for at, value in points if at >= points[-1][0] / 2]).T
    slope = float(np.polyfit(minutes, later, 1)[0]) if len(later) > 1 else 0.0
    return {"first_mb": values[0], "last_mb": values[-1], "peak_mb": max(values), "mb_per_minute": slope}
