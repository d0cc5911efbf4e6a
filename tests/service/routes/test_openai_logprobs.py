"""Log-probabilities in OpenAI's two shapes, of any tokens."""

from hypothesis import given, settings
from hypothesis import strategies as st

from service.contracts.generate import LikelyToken
from service.contracts.lane import Piece
from service.routes.openai_logprobs import chat_logprobs, text_logprobs

ANY = settings(database=None, deadline=None)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
LOGPROBS = st.floats(-50, 0)
LIKELY = st.builds(LikelyToken, token=TEXTS, token_id=st.integers(0, 9), logprob=LOGPROBS)


@st.composite
def pieces(draw: st.DrawFn, most: int = 6) -> Piece:
    """What a row may have said, the likeliest tokens in order."""
    tokens = tuple(draw(st.lists(TEXTS, max_size=most)))
    likely = draw(
        st.none() | st.lists(st.lists(LIKELY, max_size=4), min_size=len(tokens), max_size=len(tokens)).map(_in_order)
    )
    return Piece(
        row=0,
        text="".join(tokens),
        tokens=tokens,
        token_ids=tuple(range(len(tokens))),
        logprobs=tuple(draw(st.lists(LOGPROBS, min_size=len(tokens), max_size=len(tokens)))),
        top_logprobs=likely,
    )


def _in_order(likely: list[list[LikelyToken]]) -> tuple[tuple[LikelyToken, ...], ...]:
    return tuple(tuple(sorted(some, key=lambda token: -token.logprob)) for some in likely)


@ANY
@given(pieces(), st.integers(0, 100))
def test_an_offset_is_where_a_token_begins(piece: Piece, before: int) -> None:
    told = text_logprobs(piece, before)
    assert (told.tokens, told.token_logprobs) == (piece.tokens, piece.logprobs)
    for token, offset in zip(told.tokens, told.text_offset, strict=True):
        assert piece.text[offset - before :].startswith(token)
    assert list(told.text_offset) == sorted(told.text_offset)
    assert not told.tokens or told.text_offset[0] == before


@ANY
@given(pieces())
def test_the_chosen_token_is_among_the_likely(piece: Piece) -> None:
    told = text_logprobs(piece)
    for step, (token, found) in enumerate(zip(told.tokens, told.top_logprobs, strict=True)):
        likely = piece.top_logprobs[step] if piece.top_logprobs else ()
        assert found.keys() == {token, *(other.token for other in likely)}
        for other in likely:
            assert found[other.token] >= other.logprob
        if not any(other.token == token for other in likely):
            assert found[token] == piece.logprobs[step]


@ANY
@given(pieces())
def test_the_bytes_of_a_token(piece: Piece) -> None:
    told = chat_logprobs(piece).content
    assert [(one.token, one.logprob) for one in told] == list(zip(piece.tokens, piece.logprobs, strict=True))
    for step, one in enumerate(told):
        likely = piece.top_logprobs[step] if piece.top_logprobs else ()
        assert [(other.token, other.logprob) for other in one.top_logprobs] == [
            (other.token, other.logprob) for other in likely
        ]
        for token in (one, *one.top_logprobs):
            assert (token.bytes is None) is ("\ufffd" in token.token)
            assert token.bytes is None or bytes(token.bytes).decode() == token.token


@ANY
@given(st.lists(pieces(), max_size=4))
def test_what_comes_in_pieces_is_what_comes_at_once(parts: list[Piece]) -> None:
    tokens = tuple(token for part in parts for token in part.tokens)
    logprobs = tuple(logprob for part in parts for logprob in part.logprobs)
    whole = text_logprobs(
        Piece(row=0, text="".join(tokens), tokens=tokens, token_ids=(0,) * len(tokens), logprobs=logprobs)
    )
    offset, offsets = 0, list[int]()
    for part in parts:
        offsets.extend(text_logprobs(part, offset).text_offset)
        offset += len("".join(part.tokens))
    assert tuple(offsets) == whole.text_offset
