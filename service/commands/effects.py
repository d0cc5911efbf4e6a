"""Shows a trace in a terminal: a heat map of digits and colours for each kind, and where the effects are largest."""

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from service.contracts.traces import Effects, Kind, TraceResult
from service.heatmaps import labels

NAMES = {Kind.HIDDEN: "hidden state", Kind.MLP: "MLP", Kind.ATTN: "attention"}

COLOURS = {Kind.HIDDEN: (106, 81, 163), Kind.MLP: (35, 139, 69), Kind.ATTN: (203, 24, 29)}
"""Red, green, blue of the largest effect; the smallest is white."""

WIDE_LAYERS = 36
"""Up to so many layers, each is two signs wide."""

RULER = 5
"""Every so manieth layer is numbered."""


def trace_view(result: TraceResult) -> RenderableType:
    """All kinds that were traced, and what was found."""
    maps = [part for kind, effects in result.effects.items() for part in (_heat(result, kind, effects), "")]
    return Group(*maps, _largest(result), "", *_lines(result))


def _heat(result: TraceResult, kind: Kind, effects: Effects) -> RenderableType:
    names = labels(result)
    margin = max(map(len, names)) + 1
    layers = len(effects.mean[0])
    wide = 2 if layers <= WIDE_LAYERS else 1
    most = max(0.0, *map(max, effects.mean))
    title = f"{NAMES[kind]}, 9 is {most:.3f}" + ("" if kind is Kind.HIDDEN else f"; {result.window} layers at once")
    rows = [Text(title, style="bold")]
    rows += (
        Text(name.rjust(margin) + " ") + _cells(row, most, kind, wide)
        for name, row in zip(names, effects.mean, strict=True)
    )
    ruler = "".join(str(layer).ljust(RULER * wide) for layer in range(0, layers, RULER))
    return Group(*rows, Text(" " * (margin + 1) + ruler.rstrip(), style="dim"))


def _cells(row: Sequence[float], most: float, kind: Kind, wide: int) -> Text:
    line = Text()
    for effect in row:
        share = min(max(effect / most, 0.0), 1.0) if most > 0 else 0.0
        digit = str(round(9 * share)).replace("0", "·")
        red, green, blue = (round(255 + share * (part - 255)) for part in COLOURS[kind])
        ink = "white" if share > 0.6 else "black"  # noqa: PLR2004 - where black is no longer legible
        line.append(digit.rjust(wide), style=f"{ink} on rgb({red},{green},{blue})")
    return line


def _largest(result: TraceResult) -> RenderableType:
    table = Table("restored", "largest effect", "at token", "at layer", box=None)
    names = labels(result)
    for kind, effects in result.effects.items():
        places = ((row, layer) for row in range(len(effects.mean)) for layer in range(len(effects.mean[0])))
        row, layer = max(places, key=lambda place: effects.mean[place[0]][place[1]])
        error = "" if effects.error is None else f" ± {effects.error[row][layer]:.3f}"
        table.add_row(NAMES[kind], f"{effects.mean[row][layer]:.3f}{error}", Text(names[row].strip()), str(layer))
    return table


def _lines(result: TraceResult) -> Iterable[RenderableType]:
    own = "" if result.known else ", which is not what the model says by itself"
    error = "" if result.low_error is None else f" ± {result.low_error:.3f}"
    yield Text(f"answer    {result.target}{own}")
    noisy = f"{result.low:.3f}{error} with noise of {result.noise:.3f} on the subject"
    yield f"p         {result.high:.3f} as it is, {noisy}"
