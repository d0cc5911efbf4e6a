"""The figures of a report: which scores there are, what they came to, and how they are written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.contracts.benchmarks import BenchmarkResult, MethodResult
from service.contracts.scores import Summary

MAIN = ("S", "ES", "PS", "NS", "EA", "PA", "rewrite_acc", "rephrase_acc", "neighborhood_acc", "multi_hop_acc")
"""Scores that are compared first."""

GROUPS = ("locality.", "portability.")
"""And those by group whose names begin so, of what stays and of what follows."""

OWN_UNITS = {"GE": "bits", "fluency": "bits"}
"""Scores that are no share, by the last part of their names."""

NONE = "–"  # noqa: RUF001 - an en dash stands for "no value"


@dataclass(frozen=True)
class Figure:
    """A mean, and where it lies in 95 % of draws; of one record that is not known."""

    mean: float
    low: float | None = None
    high: float | None = None


def names_of(result: BenchmarkResult) -> list[str]:
    """The scores that any method has, the main ones first."""
    found = [name for method in result.methods if method.summary for name in method.summary.after.named()]
    return list(dict.fromkeys([*(name for name in MAIN if name in found), *found]))


def main_names(result: BenchmarkResult) -> list[str]:
    """The main scores that any method has."""
    return [name for name in names_of(result) if name in MAIN or (name.startswith(GROUPS) and name.endswith("_acc"))]


def figure(method: MethodResult, name: str, *, before: bool = False) -> Figure | None:
    """A score of a method, after its edits or before them."""
    if method.summary is None:
        return None
    return figure_of(method.summary.before if before else method.summary.after, name)


def figure_of(summary: Summary, name: str) -> Figure | None:
    """A score of a summary."""
    value = summary.named().get(name)
    if value is None:
        return None
    return Figure(value, *summary.ci95.get(name, (None, None)))


def scaled(name: str, value: float) -> float:
    """Shares as percentages; what has a unit of its own as it is."""
    return value if name.rsplit(".", 1)[-1] in OWN_UNITS else 100 * value


def written(name: str, found: Figure | None, *, interval: bool = True) -> str:
    """A figure with its interval: `97.5 [92.5, 100.0]`."""
    shown = found if interval or found is None else Figure(found.mean)
    return _shown(shown, lambda value: f"{scaled(name, value):.1f}")


def perplexity(method: MethodResult) -> str:
    """By how much perplexity grew, with its interval: `x 1.003 [1.001, 1.006]`."""
    found = _own_figure(method, "perplexity_ratio")
    return _shown(found, lambda value: f"{value:.3f}", prefix="x ")


def measured(method: MethodResult, name: str) -> str:
    """A mean over a method's edits, such as seconds_per_edit, with its interval: `6.73 [6.51, 6.98]`."""
    return _shown(_own_figure(method, name), decimal)


def _own_figure(method: MethodResult, name: str) -> Figure | None:
    value = getattr(method, name)
    return None if value is None else Figure(value, *method.ci95.get(name, (None, None)))


def _shown(found: Figure | None, write: Callable[[float], str], prefix: str = "") -> str:
    if found is None:
        return NONE
    text = prefix + write(found.mean)
    if found.low is None or found.high is None:
        return text
    return f"{text} [{write(found.low)}, {write(found.high)}]"


def decimal(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits."""
    return NONE if value is None else f"{value:.{digits}g}"


def per_edit(method: MethodResult) -> dict[str, float]:
    """Mean seconds of an edit by phase, scoring among them; nothing of a method that made none."""
    return {phase: seconds / method.edits for phase, seconds in method.timings.items()} if method.edits else {}


def comparison(result: BenchmarkResult) -> list[list[str]]:
    """The table of methods, its header first: the main scores, perplexity, KL, time, failures."""
    names = main_names(result)
    header = ["method", *names, "perplexity", "KL", "s per edit", "s per record", "failed"]
    return [header, *(_row(method, names) for method in result.methods)]


def _row(method: MethodResult, names: Sequence[str]) -> list[str]:
    scores = [written(name, figure(method, name)) for name in names]
    means = [measured(method, name) for name in ("kl", "seconds_per_edit", "seconds_per_record")]
    return [method.label, *scores, perplexity(method), *means, str(method.failed)]


def all_scores(result: BenchmarkResult) -> list[list[str]]:
    """Every score, its header first: of each method before and after."""
    header = ["score", *(f"{method.label}: {side}" for method in result.methods for side in ("before", "after"))]
    rows = [
        [name, *(written(name, figure(m, name, before=before)) for m in result.methods for before in (True, False))]
        for name in names_of(result)
    ]
    return [header, *rows]


def curve(method: MethodResult) -> list[list[str]]:
    """The checkpoints of a sequence, the header first."""
    columns = [("all", "EA"), ("first", "EA"), ("last", "EA"), ("all", "neighborhood_acc")]
    header = ["records", *(f"{name} {group}" for group, name in columns), "perplexity", "KL"]
    rows = [
        [
            str(point.records),
            *(written(name, figure_of(getattr(point, group), name)) for group, name in columns),
            f"x {point.drift.perplexity_ratio:.3f}",
            decimal(point.drift.kl),
        ]
        for point in method.checkpoints
    ]
    return [header, *rows]


def times(result: BenchmarkResult) -> list[list[str]]:
    """Seconds of an edit by phase, the header first: of each method."""
    phases = list(dict.fromkeys(phase for method in result.methods for phase in method.timings))
    rows = [[method.label, *(decimal(per_edit(method).get(phase)) for phase in phases)] for method in result.methods]
    return [["method", *phases], *rows]
