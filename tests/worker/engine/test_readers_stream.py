"""A stream begins with who speaks, goes on as tokens come, and adds up to the whole answer."""

import re
from collections.abc import Sequence
from typing import Any

import pytest

from service.contracts.generate import Continuation
from service.contracts.lane import LaneAnswer, Piece
from tests.worker.engine.kit import same
from tests.worker.engine.reading_desk import PROMPT, ReadingDesk, asking, refusal, whole


def _stream(answers: Sequence[LaneAnswer | None]) -> tuple[LaneAnswer, list[tuple[Piece, ...]], LaneAnswer]:
    """The first answer, the pieces step by step, the last answer."""
    first, *between, last = [answer for answer in answers if answer is not None]
    assert first.started is not None
    steps = [answer.pieces for answer in between if answer.pieces]
    assert len(steps) == len(between)
    return first, steps, last


def _joined(pieces: Sequence[Piece], whole: Continuation) -> Continuation:
    """What pieces of one row add up to."""
    ends = [piece.finish_reason for piece in pieces]
    assert ends[:-1] == [None] * (len(pieces) - 1), "only the last piece says why the row has ended"
    likeliest = [piece.top_logprobs for piece in pieces]
    told = None if likeliest[0] is None else tuple(each for part in likeliest for each in part or ())
    return Continuation(
        revision=whole.revision,
        text="".join(piece.text for piece in pieces),
        tokens=tuple(token for piece in pieces for token in piece.tokens),
        token_ids=tuple(token for piece in pieces for token in piece.token_ids),
        logprobs=tuple(value for piece in pieces for value in piece.logprobs),
        top_logprobs=told,
        finish_reason=ends[-1] or whole.finish_reason,
        seconds=whole.seconds,
    )


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n": 3, "temperature": 1.2, "seed": 4},
        {"stop": ("e", "a"), "max_new_tokens": 20, "temperature": 2.0},
        {"top_logprobs": 3},
        {"targets": ("Rome",), "max_new_tokens": 1},
        {"revisions": ("r1",)},
    ],
)
def test_pieces_add_up_to_the_continuations(reading: ReadingDesk, fields: dict[str, Any]) -> None:
    prompts = (PROMPT, "The", "東京は日本の首都です。")
    (name,) = reading.take_up(asking(*prompts, stream=True, **fields))
    assert len(reading.heard[name]) == 1, "who speaks is told before anything is computed"
    reading.finish()
    first, steps, last = _stream(reading.heard[name])
    answer = whole(last)
    assert first.started == answer.started
    rows = [[piece for step in steps for piece in step if piece.row == row] for row in range(len(answer.continuations))]
    assert sum(map(len, rows)) == sum(map(len, steps))
    for pieces, said in zip(rows, answer.continuations, strict=True):
        assert _joined(pieces, said) == said
        assert pieces[-1].finish_reason is said.finish_reason
    again = whole(reading.ask(asking(*prompts, **fields))[0])
    assert all(map(same, answer.continuations, again.continuations))
    assert again.probabilities == answer.probabilities


def test_a_token_is_told_by_the_step_that_has_found_it(reading: ReadingDesk) -> None:
    (name,) = reading.take_up(asking(stream=True, max_new_tokens=4))
    told = []
    for _ in range(4):
        more = reading.readers.step()
        answers = [answer for answer in reading.heard[name] if answer is not None]
        told.append([len(piece.tokens) for answer in answers for piece in answer.pieces or ()])
    assert not more
    assert told == [[1, 1] * count for count in (1, 2, 3, 4)]


def test_who_does_not_ask_for_a_stream_gets_one_answer(reading: ReadingDesk) -> None:
    plain, stream = reading.take_up(asking(), asking("The", stream=True))
    reading.finish()
    assert len(reading.heard[plain]) == 1
    assert len(reading.heard[stream]) > 2


def test_a_stream_that_is_refused_never_starts(reading: ReadingDesk) -> None:
    (name,) = reading.take_up(asking(stream=True, revisions=("r9",)))
    (answer,) = reading.heard[name]
    assert answer is not None
    assert refusal(answer).status == 404


def test_text_that_may_become_a_stop_comes_later_than_its_tokens(reading: ReadingDesk) -> None:
    """And text before the stop is all that is told."""
    drawn = {"max_new_tokens": 16, "temperature": 1.5, "seed": 1}
    said = reading.alone("The", 2, **drawn)
    stop = max(re.findall("[^\N{REPLACEMENT CHARACTER}]+", said.text), key=len)
    (name,) = reading.take_up(asking("The", revisions=("head",), stream=True, stop=(stop,), **drawn))
    reading.finish()
    _, steps, last = _stream(reading.heard[name])
    told = [sum(len(piece.text) for step in steps[: at + 1] for piece in step) for at in range(len(steps))]
    tokens = [sum(len(piece.tokens) for step in steps[: at + 1] for piece in step) for at in range(len(steps))]
    before = said.text.index(stop)
    assert told[-1] == before
    assert whole(last).continuations[0].text == said.text[:before]
    held = [count for count, length in zip(tokens, told, strict=True) if length == before]
    assert len(held) > 1, "the stop is one token, so the test shows nothing"
    assert whole(last).continuations[0].token_ids == said.token_ids[: tokens[-1]]
