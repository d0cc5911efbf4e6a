"""How both sides of prompts are shown: whole, or while they are still being spoken."""

import json
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Protocol

from rich.table import Table
from rich.text import Text

from service.commands.display import one_line, probability, two_sides
from service.contracts.generate import Comparison, GenerateAnswer, GeneratedPiece, GenerateRequest, Probabilities, Side

STYLES = {Side.BEFORE: "red", Side.AFTER: "green"}
"""Of what a side says from where the sides part on."""


class Spoken(Protocol):
    """What a side has said."""

    @property
    def text(self) -> str: ...  # noqa: D102

    @property
    def tokens(self) -> Sequence[str]: ...  # noqa: D102


def comparison_table(answer: GenerateAnswer, request: GenerateRequest) -> Table:
    """Each prompt with its two continuations, where they part, and how likely the targets are."""
    first = answer.results[0]
    table = two_sides(
        _heading(Side.BEFORE, request.before, first.before.revision),
        _heading(Side.AFTER, request.after, first.after.revision),
    )
    for result in answer.results:
        targets = ((request.target_new, result.target_new), (request.target_true, result.target_true))
        cells = (
            Text("\n").join([_said(said, result.parts_at, side), *_likely(targets, side)])
            for side, said in ((Side.BEFORE, result.before), (Side.AFTER, result.after))
        )
        table.add_row(_prompt(result.prompt, result.alternative, _parting(result)), *cells)
    return table


class Transcript:
    """What both sides of all prompts have said so far."""

    def __init__(self, request: GenerateRequest) -> None:
        self._request = request
        self._prompts = request.prompt or (request.messages[-1].content,)
        rows = product(range(len(self._prompts)), range(request.n))
        self._rows = {row: {side: SaidSoFar() for side in Side} for row in rows}
        self._revisions: dict[Side, int] = {}

    def hear(self, piece: GeneratedPiece) -> None:
        """Add what one side has said."""
        self._revisions[piece.side] = piece.revision
        self._rows[piece.prompt, piece.alternative][piece.side].add(piece)

    def table(self) -> Table:
        """As `comparison_table`, of what was heard."""
        asked = {Side.BEFORE: self._request.before, Side.AFTER: self._request.after}
        table = two_sides(*(_heading(side, name, self._revisions.get(side)) for side, name in asked.items()))
        for (index, alternative), sides in self._rows.items():
            parts_at = _first_difference(*(said.token_ids for said in sides.values()))
            cells = (_said(said, parts_at, side) for side, said in sides.items())
            table.add_row(_prompt(self._prompts[index], alternative), *cells)
        return table


class SaidSoFar:
    """One side of one prompt."""

    def __init__(self) -> None:
        self.text = ""
        self.tokens: list[str] = []
        self.token_ids: list[int] = []

    def add(self, piece: GeneratedPiece) -> None:
        """What it has said since."""
        self.text += piece.text
        self.tokens += piece.tokens
        self.token_ids += piece.token_ids


def piece_line(piece: GeneratedPiece) -> str:
    """A piece for those who have no terminal: its prompt and alternative, its side, its text as in JSON."""
    where = f"{piece.prompt}.{piece.alternative} {piece.side:<6} r{piece.revision}"
    ended = "" if piece.finish_reason is None else f" ({piece.finish_reason})"
    return f"{where} {json.dumps(piece.text, ensure_ascii=False)}{ended}"


def _heading(side: Side, asked: str | int, revision: int | None) -> str:
    """The side, the revision as it was asked for, and its number once it is known."""
    name = f"r{asked}" if isinstance(asked, int) else asked
    return f"{side}: {name}" + ("" if revision is None or isinstance(asked, int) else f" (r{revision})")


def _prompt(prompt: str, alternative: int, *notes: str) -> Text:
    lines = [f"alternative {alternative}"] if alternative else []
    return Text("\n").join([Text(prompt), *(Text(line, style="dim") for line in (*lines, *notes))])


def _parting(result: Comparison) -> str:
    at = result.parts_at
    if at is None:
        return "both sides say the same"
    old, new = (
        json.dumps(side.tokens[at], ensure_ascii=False) if at < len(side.tokens) else "the end"
        for side in (result.before, result.after)
    )
    return f"they part at token {at}: {old}, {new}"


def _likely(targets: Iterable[tuple[str | None, Probabilities | None]], side: Side) -> Iterable[Text]:
    for target, found in targets:
        if found is not None:
            value = found.before if side is Side.BEFORE else found.after
            yield Text(f"p={probability(value)} {target}", style="cyan")


def _said(said: Spoken, parts_at: int | None, side: Side) -> Text:
    same = "" if parts_at is None else "".join(said.tokens[:parts_at])
    text = said.text
    if parts_at is None or not text.strip():
        return one_line(text)
    if not text.startswith(same):  # the tokens do not spell the text, as with parts of one character
        return Text(text.strip(), style=STYLES[side])
    differs = (text[len(same) :] if same.strip() else text.lstrip()).rstrip()
    return Text(same.lstrip()).append(differs, style=STYLES[side])


def _first_difference(before: Sequence[int], after: Sequence[int]) -> int | None:
    return next((at for at, (old, new) in enumerate(zip(before, after, strict=False)) if old != new), None)
