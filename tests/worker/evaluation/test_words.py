"""Words as the Penn Treebank's conventions have them, and entropies that can be worked out by hand."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.evaluation.words import ngram_entropy, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The dog barks.", "The dog barks ."),
        ("It ended. Then it began.", "It ended . Then it began ."),
        ("Mr. Smith of the U.S. left.", "Mr. Smith of the U.S. left ."),
        ("J. R. R. Tolkien wrote it.", "J. R. R. Tolkien wrote it ."),
        ("Who? Me! No...", "Who ? Me ! No ..."),
        ("I don't know Mary's dogs' names; they're out.", "I do n't know Mary 's dogs ' names ; they 're out ."),
        ("We cannot, and we are gonna.", "We can not , and we are gon na ."),
        ('He said, "Go (now)."', "He said , `` Go ( now ) . ''"),
        ("At 12:30, 1,000 of 3.5 % left: all -- or most.", "At 12:30 , 1,000 of 3.5 % left : all -- or most ."),
        ("the 'big one' is here", "the ' big one ' is here"),
        ("a well-known e-mail, a@b", "a well-known e-mail , a @ b"),
        ("“Ja”, sagte er – leise", "“ Ja ” , sagte er – leise"),  # noqa: RUF001 - as people write
        ("", ""),
        (" \n\t", ""),
    ],
)
def test_words(text: str, expected: str) -> None:
    assert words(text) == expected.split()


@settings(database=None, deadline=None, max_examples=300)
@given(st.text(max_size=60) | st.text(" .?!'\"ntsmd(),:;-…", max_size=60))
def test_no_character_is_lost(text: str) -> None:
    assert _bare("".join(words(text))) == _bare("".join(text.split()))


def _bare(text: str) -> str:
    """Without quotes, which are written anew."""
    return text.translate(dict.fromkeys(map(ord, "\"'`")))


def test_entropy_by_hand() -> None:
    # a b a b a: bigrams ab ba ab ba, trigrams aba bab aba
    third = -(2 / 3 * math.log2(2 / 3) + 1 / 3 * math.log2(1 / 3))
    assert ngram_entropy("a b a b a") == pytest.approx((2 / 3 * 1 + 4 / 3 * third) / 2)
    assert ngram_entropy("one two three four five") == pytest.approx((2 / 3 * 2 + 4 / 3 * math.log2(3)) / 2)
    assert ngram_entropy("no no no no") == 0
    assert ngram_entropy("no") == ngram_entropy("") == 0


@settings(database=None, deadline=None, max_examples=100)
@given(st.lists(st.sampled_from("abc"), min_size=3, max_size=40))
def test_entropy_has_bounds(letters: list[str]) -> None:
    most = (2 / 3 * math.log2(len(letters) - 1) + 4 / 3 * math.log2(len(letters) - 2)) / 2
    assert -1e-9 <= ngram_entropy(" ".join(letters)) <= most + 1e-9
