"""Means of scores over facts or records, with bootstrapped 95 % intervals."""

from collections.abc import Iterator, Sequence
from statistics import harmonic_mean

import numpy as np
from numpy.typing import NDArray

from service.contracts.scores import Summary

DRAWS = 1000
SEED = 0
INTERVAL = (0.025, 0.975)

AT_ONCE = 2**20
"""Counts drawn at a time, so that ten thousand facts need no more memory than a hundred."""

OF_S = ("ES", "PS", "NS")


def mean_of(found: Sequence[Summary], *, intervals: bool = True) -> Summary:
    """Each score's mean over those that have it; S is of the means (ROME, section 3.1), not their mean.

    Where there are two or more, ci95 says where the means lie in 95 % of draws, with replacement, of so many of them;
    the draws are the same for all scores and in every call.
    """
    rows = [summary.named() for summary in found]
    names = list(dict.fromkeys(name for row in rows for name in row if name != "S"))
    table = np.array([[row.get(name, np.nan) for name in names] for row in rows])
    means = dict(zip(names, np.nanmean(table, axis=0).tolist(), strict=True))
    drawn = _drawn_means(table, names) if intervals and len(rows) > 1 else {}
    return Summary.of(
        {**means, **_of_means(means)},
        {name: _interval(values) for name, values in {**drawn, **_of_draws(drawn)}.items()},
    )


def interval_of(parts: Sequence[float], wholes: Sequence[float] | None = None) -> tuple[float, float] | None:
    """Where the sum of parts over the sum of wholes lies in 95 % of draws of so many pairs; None of fewer than two.

    wholes: 1 each, so that it is the parts' mean, unless given.
    """
    if len(parts) <= 1:
        return None
    drawn = _drawn_means(np.array([parts, wholes or [1.0] * len(parts)]).T, ("part", "whole"))
    return _interval(drawn["part"] / drawn["whole"])


def harmonic(es: float | None, ps: float | None, ns: float | None) -> float | None:
    """S, where there are all three."""
    return None if es is None or ps is None or ns is None else harmonic_mean([es, ps, ns])


def _of_means(means: dict[str, float]) -> dict[str, float]:
    score = harmonic(*(means.get(name) for name in OF_S))
    return {} if score is None else {"S": score}


def _of_draws(drawn: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    if not drawn.keys() >= set(OF_S):
        return {}
    parts = np.stack([drawn[name] for name in OF_S])
    with np.errstate(divide="ignore", over="ignore"):
        return {"S": 3 / (1 / parts).sum(0)}


def _drawn_means(table: NDArray[np.float64], names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """The means of each column of [N, names] in every draw, by name; NaN where a draw has no value of it."""
    known = ~np.isnan(table)
    values = np.where(known, table, 0.0)
    sums, counts = [], []
    for drawn in _draws(len(table)):
        sums.append(drawn @ values)
        counts.append(drawn @ known)
    count = np.concatenate(counts)
    means = np.concatenate(sums) / np.where(count > 0, count, np.nan)
    return dict(zip(names, means.T, strict=True))


def _draws(size: int) -> Iterator[NDArray[np.float64]]:
    """How often each of so many is drawn, [draws, size], part by part."""
    chance = np.random.default_rng(SEED)
    most = max(1, AT_ONCE // size)
    for done in range(0, DRAWS, most):
        drawn = chance.integers(size, size=(min(most, DRAWS - done), size))
        yield np.stack([np.bincount(row, minlength=size) for row in drawn]).astype(np.float64)


def _interval(means: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.nanquantile(means, INTERVAL)
    return float(low), float(high)
