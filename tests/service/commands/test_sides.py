"""What the tables of both sides say, whole and as it comes."""

import pytest

from service.commands.sides import Transcript, comparison_table, piece_line
from service.contracts.generate import (
    Comparison,
    FinishReason,
    GenerateAnswer,
    GeneratedPiece,
    GenerateRequest,
    Probabilities,
    Side,
)
from tests.service.commands.test_display import text_of
from tests.service.speech import continuation

Tokens = tuple[str, ...]

REQUEST = GenerateRequest(prompt=("The [tower]", "Rome"), n=2, after=3, target_new="Rome")


def answer(before: Tokens, after: Tokens, parts_at: int | None, **changes: object) -> GenerateAnswer:
    sides = {"before": continuation(0, *before), "after": continuation(3, *after)}
    known = {"prompt": "The [tower]", **sides, "parts_at": parts_at, **changes}
    return GenerateAnswer(revision=3, model="m", seed=1, results=(Comparison.model_validate(known),), seconds=0.1)


def piece(text: str, side: Side, token_id: int, **changes: object) -> GeneratedPiece:
    known = {"prompt": 0, "alternative": 0, "side": side, "revision": 3 if side is Side.AFTER else 0, "text": text}
    return GeneratedPiece.model_validate(
        {**known, "tokens": (text,), "token_ids": (token_id,), "logprobs": (-1,), **changes}
    )


def rows_of(text: str) -> list[list[str]]:
    """The cells of a table's lines."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]


@pytest.mark.parametrize(
    ("before", "after", "parts_at", "said", "parting"),
    [
        ((" in", " Paris"), (" in", " Rome"), 1, ["in Paris", "in Rome"], 'they part at token 1: " Paris", " Rome"'),
        ((" Paris",), (" Rome",), 0, ["Paris", "Rome"], 'they part at token 0: " Paris", " Rome"'),
        ((" same",), (" same",), None, ["same", "same"], "both sides say the same"),
        ((), (" Rome",), 0, ["(ends at once)", "Rome"], 'they part at token 0: the end, " Rome"'),
    ],
)
def test_both_sides_and_where_they_part(
    before: Tokens, after: Tokens, parts_at: int | None, said: list[str], parting: str
) -> None:
    shown = text_of(comparison_table(answer(before, after, parts_at), REQUEST), width=160)
    assert "before: base (r0)" in shown
    assert "after: r3" in shown
    assert rows_of(shown) == [["The [tower]", *said], [parting, "", ""]]


def test_an_alternative_is_numbered_and_a_target_has_its_probability() -> None:
    likely = Probabilities(before=0.00002, after=0.75)
    shown = text_of(comparison_table(answer(("a",), ("a",), None, alternative=1, target_new=likely), REQUEST))
    assert rows_of(shown) == [
        ["The [tower]", "a", "a"],
        ["alternative 1", "p=2e-05 Rome", "p=0.750 Rome"],
        ["both sides say the same", "", ""],
    ]


def test_a_transcript_grows_on_both_sides() -> None:
    transcript = Transcript(REQUEST)
    shown = text_of(transcript.table())
    assert "before: base " in shown
    assert [row[0] for row in rows_of(shown) if row[0]] == [
        *("The [tower]", "The [tower]", "alternative 1", "Rome", "Rome", "alternative 1")
    ]
    for heard in (
        piece(" in", Side.BEFORE, 1),
        piece(" in", Side.AFTER, 1),
        piece(" Rome", Side.AFTER, 3),
        piece(" Paris", Side.BEFORE, 2, finish_reason=FinishReason.STOP),
        piece("else", Side.AFTER, 1, prompt=1, alternative=1),
    ):
        transcript.hear(heard)
    shown = text_of(transcript.table())
    assert "before: base (r0)" in shown
    assert rows_of(shown)[0] == ["The [tower]", "in Paris", "in Rome"]
    assert rows_of(shown)[-2] == ["Rome", "(ends at once)", "else"]


def test_a_piece_is_one_line() -> None:
    assert piece_line(piece('a\n"b', Side.BEFORE, 1)) == r'0.0 before r0 "a\n\"b"'
    ended = piece("é", Side.AFTER, 1, prompt=2, alternative=1, finish_reason=FinishReason.LENGTH)
    assert piece_line(ended) == '2.1 after  r3 "é" (length)'
