"""The figures of a report: which scores there are, what they came to, and how they are written."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.contracts.benchmarks import BenchmarkResult, MethodResult

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
    side = method.summary.before if before else method.summary.after
    value = side.named().get(name)
    if value is None:
        return None
    low, high = side.ci95.get(name, (None, None))
    return Figure(value, low, high)


def scaled(name: str, value: float) -> float:
    """Shares as percentages; what has a unit of its own as it is."""
    return value if name.rsplit(".", 1)[-1] in OWN_UNITS else 100 * value


def written(name: str, found: Figure | None, *, interval: bool = True) -> str:
    """A figure with its interval: `97.5 [92.5, 100.0]`."""
    if found is None:
        return NONE
    text = f"{scaled(name, found.mean):.1f}"
    if not interval or found.low is None or found.high is None:
        return text
    return f"{text} [{scaled(name, found.low):.1f}, {scaled(name, found.high):.1f}]"


def decimal(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits."""
    return NONE if value is None else f"{value:.{digits}g}"


def per_edit(method: MethodResult) -> dict[str, float]:
    """Mean seconds of an edit by phase, scoring among them; nothing of a method that made none."""
    return {phase: seconds / method.edits for phase, seconds in method.timings.items()} if method.edits else {}


def comparison(result: BenchmarkResult) -> list[list[str]]:
    """The table of methods, its header first: the main scores, perplexity, time, failures."""
    names = main_names(result)
    header = ["method", *names, "perplexity", "s per edit", "s per record", "failed"]
    return [header, *(_row(method, names) for method in result.methods)]


def _row(method: MethodResult, names: Sequence[str]) -> list[str]:
    scores = [written(name, figure(method, name)) for name in names]
    ratio = NONE if method.perplexity_ratio is None else f"x {method.perplexity_ratio:.3f}"
    times = [decimal(method.seconds_per_edit), decimal(method.seconds_per_record)]
    return [method.label, *scores, ratio, *times, str(method.failed)]


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
    groups = ("all", "first", "last")
    header = ["records", *(f"EA {group}" for group in groups), "neighborhood_acc all", "perplexity", "KL"]
    rows = [
        [
            str(point.records),
            *(f"{100 * getattr(point, group).EA:.1f}" for group in groups),
            NONE if point.all.neighborhood_acc is None else f"{100 * point.all.neighborhood_acc:.1f}",
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
