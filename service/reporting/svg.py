"""Shapes of SVG as text; whatever is written in them is escaped."""

from collections.abc import Iterable
from html import escape

WIDTH = 340
"""Of every plot, in its own units: on a phone they are pixels."""

COLOURS = 12
"""Methods, or phases, that have colours of their own; more begin anew."""


def picture(height: float, label: str, parts: Iterable[str]) -> str:
    """A whole plot; label: what it shows, for those who hear it."""
    said = escape(label, quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{said}">{"".join(parts)}</svg>'


def text(x: float, y: float, words: str, *, anchor: str = "start", kind: str = "") -> str:
    """Words from, around, or up to a point."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def path(points: Iterable[tuple[float, float]], kind: str) -> str:
    """A line through points."""
    return f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" class="{kind}"/>'


def dot(x: float, y: float, kind: str, told: str, radius: float = 4) -> str:
    """A dot that tells its value to a pointer."""
    circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" class="{kind}">'
    return f"{circle}<title>{escape(told)}</title></circle>"


def bar(x: float, y: float, width: float, height: float, kind: str, told: str) -> str:
    """A bar that tells its value to a pointer."""
    box = f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" class="{kind}">'
    return f"{box}<title>{escape(told)}</title></rect>"


def colour(index: int) -> str:
    """The class of what belongs to the index-th method, or phase."""
    return f"c{index % COLOURS}"


def clipped(words: str, most: int) -> str:
    """Words that fit where there is room for so many letters."""
    return words if len(words) <= most else words[: most - 1] + "…"
