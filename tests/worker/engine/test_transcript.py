"""Text that is told while it grows is never taken back, and adds up to what the tokens say as a whole."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.families import tiny_tokenizer
from worker.engine.transcript import UNFINISHED, Transcript

WORDS = [*range(len(tiny_tokenizer()))]
TOKENS = st.lists(st.sampled_from(WORDS), max_size=20)
TEXTS = st.text(st.sampled_from("abe .é東🙂\n"), max_size=20)


def _decoded(tokens: Sequence[int]) -> str:
    return str(tiny_tokenizer().decode(tokens, skip_special_tokens=True))


def _told(tokens: Sequence[int], stop: Sequence[str]) -> list[str]:
    """The text after each token, up to the stop, and at the end."""
    transcript = Transcript(tiny_tokenizer(), stop)
    told = []
    for token in tokens:
        transcript.add(token)
        told.append(transcript.text)
        if transcript.stopped:
            return told
    transcript.end()
    return [*told, transcript.text]


def _expected(tokens: Sequence[int], stop: Sequence[str]) -> str:
    """By decoding everything anew after every token."""
    for length in range(1, len(tokens) + 1):
        text = _decoded(tokens[:length])
        met = [text.find(each) for each in stop if each in text]
        if met and (length == len(tokens) or not text.endswith(UNFINISHED)):
            return text[: min(met)]
    return _decoded(tokens)


@given(tokens=TOKENS)
def test_any_tokens_add_up_to_their_text(tokens: list[int]) -> None:
    told = _told(tokens, ())
    assert told[-1] == _decoded(tokens)
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(told))


@given(text=TEXTS, stop=st.lists(st.text(st.sampled_from("abe é"), min_size=1, max_size=4), max_size=3))
def test_a_text_ends_before_the_first_stop(text: str, stop: list[str]) -> None:
    tokens = tiny_tokenizer()(text)["input_ids"]
    told = _told(tokens, stop)
    assert told[-1] == _expected(tokens, stop)
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(told))


@pytest.mark.parametrize(
    ("text", "stop", "last"),
    [
        ("one two three", [" two"], "one"),
        ("one two three", ["o t"], "one tw"),
        ("one two three", ["zero", "three", "two"], "one "),
        ("one two", ["two three"], "one two"),
        ("one", ["one"], ""),
        ("aab", ["ab"], "a"),
        ("🙂🙂", ["🙂"], ""),
    ],
)
def test_stops(text: str, stop: list[str], last: str) -> None:
    assert _told(tiny_tokenizer()(text)["input_ids"], stop)[-1] == last


def test_what_may_become_a_stop_is_held_back() -> None:
    tokens = tiny_tokenizer()("x END y")["input_ids"]
    for text in _told(tokens, ["END z"])[:-1]:
        assert not text.endswith(("E", "EN", "END", "END "))


def test_a_character_is_told_when_all_of_it_is_there() -> None:
    tokens = tiny_tokenizer()("🙂")["input_ids"]
    assert len(tokens) > 1
    assert _told(tokens, ()) == [""] * (len(tokens) - 1) + ["🙂", "🙂"]
