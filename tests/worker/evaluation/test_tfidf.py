"""TF-IDF by hand, and what a cosine promises; tests/reference holds it to scikit-learn's own numbers."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.evaluation.tfidf import Tfidf

TEXT = st.lists(st.sampled_from(["oslo", "rome", "in", "the", "city", "of"]), max_size=10).map(" ".join)


def test_by_hand() -> None:
    found = Tfidf(["the city", "the Rome", "the Oslo"]).similarity("the city", "CITY of Rome")
    the, rare = 1.0, math.log(4 / 2) + 1
    assert found == pytest.approx(rare * rare / (math.hypot(the, rare) * math.hypot(rare, rare)))


def test_words_have_two_letters_at_least_and_no_word_counts_that_no_document_has() -> None:
    vectors = Tfidf(["a city"])
    assert vectors.similarity("a a a", "a city") == 0
    assert vectors.similarity("city", "a village, a city") == pytest.approx(1)
    assert vectors.similarity("", "city") == 0
    assert Tfidf([]).similarity("city", "city") == 0


@settings(database=None, deadline=None, max_examples=100)
@given(st.lists(TEXT, max_size=4), TEXT, TEXT)
def test_a_cosine(documents: list[str], text: str, other: str) -> None:
    vectors = Tfidf(documents)
    found = vectors.similarity(text, other)
    assert -1e-9 <= found <= 1 + 1e-9
    assert found == pytest.approx(vectors.similarity(other, text))
    assert vectors.similarity(text, text) == pytest.approx(
        float(bool(set(text.split()) & set(" ".join(documents).split())))
    )
