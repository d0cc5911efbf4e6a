"""Draw the pictures of docs/how-edits-work.md, each for light and for dark pages.

python -m docs.hooks.figures
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "figures"
FONT = "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"

Ink = Mapping[str, str]
"""Colours by role."""

ROLES = ("text", "line", "cell", "key", "value", "weak")
INKS: Mapping[str, Ink] = {
    "": dict(zip(ROLES, ("#24292f", "#8a94a3", "#eef1f5", "#2f6db5", "#b3541e", "#5c6673"), strict=True)),
    "-dark": dict(zip(ROLES, ("#e3e7ee", "#66718a", "#2a3243", "#7fb0ee", "#f0a36b", "#a3adbd"), strict=True)),
}


def main() -> None:
    """Write all files."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in drawings():
        (FOLDER / name).write_text(text, encoding="utf-8")


def drawings() -> Iterator[tuple[str, str]]:
    """(file name, SVG) of every picture."""
    pictures: Mapping[str, Callable[[Ink], str]] = {"where": where, "equation": equation, "fold": fold}
    for name, draw in pictures.items():
        for suffix, ink in INKS.items():
            yield f"{name}{suffix}.svg", draw(ink)


def where(ink: Ink) -> str:
    """Tokens across, layers up: the MLP that is rewritten, and the way of what it says to the answer."""
    tokens = ("The", "Eiffel", "Tower", "is", "in", "the", "city", "of")
    subject, layer, reader, layers, last = 2, 2, 6, 8, 7
    parts: list[str] = []
    for column, token in enumerate(tokens):
        x, of_subject = 60 + 56 * column, column <= subject
        parts.append(text(x + 20, 322, token, ink["value"] if of_subject else ink["text"], size=14, bold=of_subject))
        for row in range(layers):
            edited = (column, row) == (subject, layer)
            told = (column == subject and layer < row <= reader) or (column == last and row >= reader)
            colour = ink["key"] if edited else ink["value"] if told else ink["cell"]
            parts.append(box(x, _up(row) - 10, 40, 20, colour, ink["line"]))
    start, end = 60 + 56 * subject + 40, 60 + 56 * last
    parts.append(arrow(start, _up(reader), end - 3, _up(reader), ink["value"]))
    parts += [
        text(end + 20, 42, "Rome", ink["value"], bold=True),
        text(34, _up(0) + 4, "layer 0", ink["weak"], size=12),
        text(34, _up(layers - 1) + 4, "last", ink["weak"], size=12),
        text(end + 56, _up(reader) + 4, "attention carries it to the last token", ink["value"], size=13, at="start"),
        text(end + 56, _up(layer) + 4, "the MLP at the subject's last token", ink["key"], size=13, at="start"),
        text(end + 56, _up(layer) + 22, "is rewritten: k goes in, v* comes out", ink["key"], size=13, at="start"),
    ]
    return svg(770, 340, "A grid of tokens and layers with one edited MLP at the subject's last token", parts)


def _up(row: int) -> int:
    """The middle of a layer's row."""
    return 292 - 32 * row


def equation(ink: Ink) -> str:
    """The shapes of dW = R A^T."""
    parts = [
        *_matrix((20, 50, 210, 130), ink["cell"], ink, ("ΔW", "h by d", "the change of one matrix")),
        text(268, 122, "=", ink["text"], size=26),
        *_matrix((330, 50, 42, 130), ink["value"], ink, ("R", "h by N", "what the outputs lack")),
        text(440, 122, "·", ink["text"], size=30),
        *_matrix((480, 94, 210, 42), ink["key"], ink, ("Aᵀ", "N by d", "which inputs ask for it")),
    ]
    return svg(710, 240, "Delta W of h rows and d columns is R, h by N, times A transposed, N by d", parts)


def fold(ink: Ink) -> str:
    """A history of five revisions: what made each, and the sum that it stands for."""
    history = (
        ("r0", "base", ""),
        ("r1", "edit a", "+ a"),
        ("r2", "edit b", "+ a + b"),
        ("r3", "revert a", "+ b"),
        ("r4", "rollback to r0", ""),
    )
    parts: list[str] = []
    for index, (name, kind, active) in enumerate(history):
        x = 24 + 134 * index
        parts.append(box(x, 40, 104, 58, ink["cell"], ink["line"]))
        parts.append(text(x + 52, 65, name, ink["text"], bold=True))
        parts.append(text(x + 52, 86, kind, ink["weak"], size=12))
        parts.append(text(x + 52, 126, f"W₀ {active}".strip(), ink["value"] if active else ink["key"], size=15))
        if index:
            parts.append(arrow(x - 29, 69, x - 3, 69, ink["line"]))
    parts.append(text(345, 156, "r4 has the bits of r0: nothing is ever subtracted", ink["weak"], size=13))
    return svg(690, 172, "Five revisions in a row, each the base plus the sum of its active deltas", parts)


def _matrix(place: tuple[int, int, int, int], colour: str, ink: Ink, said: tuple[str, str, str]) -> list[str]:
    """A rectangle (x, y, width, height) with its name above it, its shape and its meaning below."""
    x, y, width, height = place
    name, shape, meaning = said
    middle, below = x + width / 2, y + height
    return [
        box(x, y, width, height, colour, ink["line"]),
        text(middle, y - 12, name, ink["text"], size=22, bold=True),
        text(middle, below + 20, shape, ink["weak"], size=13),
        text(middle, below + 38, meaning, ink["text"], size=13),
    ]


def box(x: float, y: float, width: float, height: float, fill: str, line: str) -> str:
    """A rectangle with soft corners."""
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="4" fill="{fill}" stroke="{line}"/>'


def text(x: float, y: float, words: str, colour: str, *, size: int = 15, bold: bool = False, at: str = "middle") -> str:
    """A line of text; `at` is the point of it that stands at x."""
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" fill="{colour}" font-size="{size}" text-anchor="{at}"{weight}>{words}</text>'


def arrow(x: float, y: float, to_x: float, to_y: float, colour: str) -> str:
    """A level line with a head at its right end."""
    head = f'<path d="M{to_x - 8:g} {to_y - 5:g} L{to_x:g} {to_y:g} L{to_x - 8:g} {to_y + 5:g} Z" fill="{colour}"/>'
    return f'<path d="M{x:g} {y:g} L{to_x - 6:g} {to_y:g}" stroke="{colour}" stroke-width="2"/>{head}'


def svg(width: int, height: int, title: str, parts: list[str]) -> str:
    """The whole file."""
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="{FONT}">\n<title>{title}</title>\n{body}\n</svg>\n'
    )


if __name__ == "__main__":
    main()
