"""The plots of a report: scores by method, efficacy against locality, sequences, and where the time goes."""

import math
from collections.abc import Callable, Iterator, Sequence

from service.contracts.benchmarks import BenchmarkResult, Checkpoint, MethodResult
from service.reporting.figures import Figure, figure, main_names, per_edit, written
from service.reporting.svg import bar, clipped, colour, dot, line, path, picture, text

TICKS = (0, 25, 50, 75, 100)

LOCALITIES = ("neighborhood_acc", "NS")
"""Scores that locality is told by, whichever there is first; else by that of a group."""

LEFT, RIGHT = 12.0, 328.0
"""Between which x scores lie."""

Point = tuple[int, float]


def scores_plot(result: BenchmarkResult) -> str:
    """Each main score as a row, in it each method as a dot with its interval."""
    names, count = main_names(result), len(result.methods)
    row = 10.0 * count + 20
    height = row * len(names) + 24

    def parts() -> Iterator[str]:
        yield from _percent_axis(LEFT, RIGHT, 2, height - 18)
        for at, name in enumerate(names):
            top = at * row + 14
            yield text(LEFT, top, clipped(name, 50))
            for number, method in enumerate(result.methods):
                found = figure(method, name)
                if found is not None:
                    yield from _whisker(
                        found, top + 10 + 10 * number, number, f"{method.label}: {written(name, found)}"
                    )

    return picture(height, "Scores by method, with 95 % intervals, in percent", parts())


def _whisker(found: Figure, y: float, number: int, told: str) -> Iterator[str]:
    if found.low is not None and found.high is not None:
        yield line(_across(found.low), y, _across(found.high), y, f"interval {colour(number)}")
    yield dot(_across(found.mean), y, colour(number), told)


def _across(share: float, left: float = LEFT, right: float = RIGHT) -> float:
    return left + (right - left) * min(max(share, 0.0), 1.0)


def _percent_axis(left: float, right: float, top: float, bottom: float) -> Iterator[str]:
    for tick in TICKS:
        x = _across(tick / 100, left, right)
        yield line(x, top, x, bottom, "grid")
        yield text(x, bottom + 13, str(tick), anchor="middle")


def tradeoff_plot(result: BenchmarkResult) -> str | None:
    """Efficacy upwards, locality to the right, a dot with its intervals for each method; None without locality."""
    names = [*LOCALITIES, *(name for name in main_names(result) if name.startswith("locality."))]
    locality = next((name for name in names if any(figure(method, name) for method in result.methods)), None)
    if locality is None:
        return None
    left, right, top, bottom = 44.0, 328.0, 8.0, 238.0

    def up(share: float) -> float:
        return bottom - (bottom - top) * min(max(share, 0.0), 1.0)

    def parts() -> Iterator[str]:
        yield from _percent_axis(left, right, top, bottom)
        for tick in TICKS:
            yield line(left, up(tick / 100), right, up(tick / 100), "grid")
            yield text(left - 6, up(tick / 100), str(tick), anchor="end", kind="mid")
        yield text((left + right) / 2, bottom + 30, f"{locality} (locality)", anchor="middle")
        yield f'<g transform="rotate(-90 12 {(top + bottom) / 2})">'
        yield text(12, (top + bottom) / 2, "EA (efficacy)", anchor="middle", kind="mid") + "</g>"
        for number, method in enumerate(result.methods):
            kept, took = figure(method, locality), figure(method, "EA")
            if kept is None or took is None:
                continue
            x, y = _across(kept.mean, left, right), up(took.mean)
            if kept.low is not None and kept.high is not None:
                yield line(
                    _across(kept.low, left, right), y, _across(kept.high, left, right), y, f"interval {colour(number)}"
                )
            if took.low is not None and took.high is not None:
                yield line(x, up(took.low), x, up(took.high), f"interval {colour(number)}")
            told = f"{method.label}: EA {written('EA', took)}, {locality} {written(locality, kept)}"
            yield dot(x, y, colour(number), told, radius=5)

    return picture(bottom + 38, "Efficacy against locality, in percent", parts())


def curve_plots(result: BenchmarkResult) -> list[tuple[str, str]]:
    """What becomes of a sequence: titles and plots over the records written, a line for each method."""
    if not any(method.checkpoints for method in result.methods):
        return []
    shares: list[tuple[str, Callable[[Checkpoint], float | None]]] = [
        ("EA of all records so far", lambda point: point.all.EA),
        ("EA of the first records", lambda point: point.first.EA),
        ("EA of the last records", lambda point: point.last.EA),
        ("Neighbours' answers that stay", lambda point: point.all.neighborhood_acc),
    ]
    plots = [(title, _curve(result.methods, title, of, TICKS, 100.0)) for title, of in shares]
    title = "Perplexity of neutral text, after over before"
    of = lambda point: math.log10(max(point.drift.perplexity_ratio, 1e-3))  # noqa: E731 - beside the others
    return [*plots, (title, _curve(result.methods, title, of, None, 1.0))]


def _curve(
    methods: Sequence[MethodResult],
    title: str,
    of: Callable[[Checkpoint], float | None],
    ticks: Sequence[float] | None,
    scale: float,
) -> str:
    """Lines over the records; ticks: of the axis upwards; without any it is one of powers of ten."""
    lines = [
        [(point.records, scale * value) for point in method.checkpoints if (value := of(point)) is not None]
        for method in methods
    ]
    marks = ticks or _decades([value for points in lines for _, value in points])
    left, right, top, bottom = 44.0, 328.0, 8.0, 128.0
    most = max((records for points in lines for records, _ in points), default=1)

    def place(point: Point) -> tuple[float, float]:
        low, high = marks[0], marks[-1]
        return left + (right - left) * point[0] / most, bottom - (bottom - top) * (point[1] - low) / (high - low)

    def parts() -> Iterator[str]:
        for mark in marks:
            y = place((0, mark))[1]
            yield line(left, y, right, y, "grid")
            yield text(left - 6, y, f"{mark:g}" if ticks else f"{10**mark:.3g}", anchor="end", kind="mid")
        for records in {0, most // 2, most}:
            yield text(place((records, marks[0]))[0], bottom + 14, str(records), anchor="middle")
        yield text((left + right) / 2, bottom + 30, "records written", anchor="middle")
        for number, (method, points) in enumerate(zip(methods, lines, strict=True)):
            yield path(map(place, points), f"curve {colour(number)}")
            for point in points:
                value = f"{point[1]:.1f}" if ticks else f"{10 ** point[1]:.3f}"
                yield dot(*place(point), colour(number), f"{method.label}, {point[0]} records: {value}", radius=3)

    return picture(bottom + 36, title, parts())


def _decades(values: Sequence[float]) -> list[float]:
    """Logarithms that an axis is marked at: whole ones around the values, or finer where they lie close together."""
    low, high = min([0.0, *values]), max([0.0, *values])
    step = 1.0 if high - low > 1 else math.log10(2) if high - low > 0.1 else math.log10(1.05)  # noqa: PLR2004
    first, last = math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)
    return [step * number for number in range(first, last + 1)]


def time_plot(result: BenchmarkResult) -> tuple[str, list[str]] | None:
    """A bar for each method: mean seconds of an edit, phase after phase; and the phases, as they are coloured."""
    phases = list(dict.fromkeys(phase for method in result.methods for phase in method.timings))
    longest = max((sum(per_edit(method).values()) for method in result.methods), default=0.0)
    if not longest:
        return None
    left, right = 8.0, 328.0

    def parts() -> Iterator[str]:
        for at, method in enumerate(result.methods):
            spent, x, top = per_edit(method), left, at * 40.0
            total = f"{sum(spent.values()):.3g} s"
            yield text(left, top + 12, clipped(f"{method.label}, {total}", 52))
            for number, phase in enumerate(phases):
                width = (right - left) * spent.get(phase, 0.0) / longest
                told = f"{method.label}, {phase}: {spent.get(phase, 0.0):.3g} s"
                yield bar(x, top + 18, width, 14, colour(number), told)
                x += width

    height = 40.0 * len(result.methods)
    return picture(height, "Seconds of an edit, by phase", parts()), phases
