"""Draws a trace as the paper does (ROME, figures 1 and 2): tokens down, layers across, the subject's tokens starred."""

import io
import threading
import warnings
from collections.abc import Sequence
from typing import Any

from service.contracts.traces import Kind, TraceResult

TITLES = {Kind.HIDDEN: "one hidden state", Kind.MLP: "{} MLP outputs", Kind.ATTN: "{} attention outputs"}
"""What is restored, {} standing for the layers of a window."""

COLOURS = {Kind.HIDDEN: "Purples", Kind.MLP: "Greens", Kind.ATTN: "Reds"}
"""The paper's."""

PANEL, TOKEN, AROUND = 3.6, 0.2, 0.95
"""Inches: a panel's width, the height of a token's row, and what title and axis take."""

LONGEST = 24
"""Characters of a token's label."""

MOST_PIXELS = 2**25
"""Of a picture: a long prompt's is drawn coarser."""

_FONT = 8


class Heatmaps:
    """Draws traces, one at a time: matplotlib does not take two threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def draw(self, result: TraceResult, kinds: Sequence[Kind], form: str, width: int) -> bytes:
        """Kinds that were traced side by side, as "png" `width` pixels wide, or as "svg".

        Each kind has its own scale, from the corrupted run's probability to the largest with a state restored.
        """
        with self._lock, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a box stands for it
            return _drawn(result, kinds, form, width)


def labels(result: TraceResult) -> list[str]:
    """Each traced token as one printable line, a star behind those of the subject."""
    begin, end = result.subject
    return [_label(result.tokens[at]) + ("*" if begin <= at < end else "") for at in result.traced]


def _label(token: str) -> str:
    text = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in token)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _drawn(result: TraceResult, kinds: Sequence[Kind], form: str, width: int) -> bytes:
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and most servers never draw
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    inches = PANEL * len(kinds), TOKEN * len(result.traced) + AROUND
    dpi = min(width / inches[0], (MOST_PIXELS / (inches[0] * inches[1])) ** 0.5)
    written = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "palimpsest", "font.size": _FONT}):
        figure = Figure(figsize=inches, dpi=dpi, layout="constrained")
        FigureCanvasAgg(figure)
        for column, (kind, axes) in enumerate(
            zip(kinds, figure.subplots(1, len(kinds), squeeze=False)[0], strict=True)
        ):
            _panel(figure, axes, result, kind, named=column == 0)
        figure.savefig(written, format=form, metadata={"Date": None} if form == "svg" else None)
    return written.getvalue()


def _panel(figure: Any, axes: Any, result: TraceResult, kind: Kind, *, named: bool) -> None:
    """named: whether the tokens stand beside it."""
    restored = [[result.low + effect for effect in row] for row in result.effects[kind].mean]
    layers = len(restored[0])
    highest = max(map(max, restored))
    mesh = axes.pcolormesh(restored, cmap=f"{COLOURS[kind]}", vmin=result.low, vmax=max(highest, result.low + 1e-9))
    axes.invert_yaxis()
    names = labels(result)
    axes.set_yticks([at + 0.5 for at in range(len(names))], names if named else [""] * len(names))
    for text in axes.get_yticklabels():
        text.set_parse_math(False)  # a dollar sign is a token
    step = max(1, round(layers / 6))
    axes.set_xticks([at + 0.5 for at in range(0, layers, step)], [str(at) for at in range(0, layers, step)])
    axes.tick_params(length=2)
    what = TITLES[kind].format(result.window)
    axes.set_title(f"restoring {what}", fontsize=_FONT)
    axes.set_xlabel("layer" if kind is Kind.HIDDEN else "layer in the middle")
    bar = figure.colorbar(mesh, ax=axes, fraction=0.05, pad=0.03)
    bar.ax.set_title(f"p({_label(result.target)})", fontsize=_FONT - 1, parse_math=False)
