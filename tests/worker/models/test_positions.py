"""Subjects and targets are found by characters, whatever the tokens are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.families import tiny_tokenizer
from worker.models.positions import continuation, last_token_before, reply_row, subject_end, subject_row, target_row

WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), min_size=1, max_size=12
)


@pytest.mark.parametrize(
    ("prompt", "subject", "rest"),
    [
        ("Rome is old", "Rome", " is old"),
        ("In Rome", "Rome", ""),
        ("Rome and Rome, again", "Rome", ", again"),
        ("Ali met Alice in", "Ali", " met Alice in"),
        ("Alice and Ali in", "Ali", " in"),
        ("Bologna is", "Bolo", "gna is"),
        ("{Rome} {}", "{Rome}", " {}"),
        ("東京は日本", "東京", "は日本"),
    ],
)
def test_the_last_whole_word_counts(prompt: str, subject: str, rest: str) -> None:
    assert prompt[subject_end(prompt, subject) :] == rest


def test_an_absent_subject_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not occur"):
        subject_end("Rome is old", "Paris")


@given(WORDS, WORDS, WORDS)
def test_the_anchor_covers_the_subjects_last_character(before: str, subject: str, after: str) -> None:
    prompt = f"{before} {subject} {after}"
    tokenizer = tiny_tokenizer()
    end = subject_end(prompt, subject)
    row = subject_row(tokenizer, prompt, subject)
    offsets = tokenizer(prompt, return_offsets_mapping=True)["offset_mapping"]
    assert row.anchor == len(row.ids) - 1 == last_token_before(offsets, end)
    begin, stop = offsets[row.anchor]
    assert begin < end <= stop
    assert all(later >= end or (later, until) == (begin, stop) for later, until in offsets[row.anchor + 1 :])


@given(WORDS, WORDS, WORDS)
def test_targets_follow_the_prompt(prefix: str, prompt: str, target: str) -> None:
    tokenizer = tiny_tokenizer()
    row = target_row(tokenizer, prompt, target, prompt, prefix + ". ")
    whole = tokenizer(continuation(prefix + ". " + prompt, target))["input_ids"]
    assert [*row.ids, row.targets[-1]] == whole
    assert row.targets == tuple(whole[-len(row.targets) :])
    assert row.reads == tuple(range(len(whole) - len(row.targets) - 1, len(whole) - 1))
    assert tokenizer.decode(row.targets).strip().endswith(target[-1]) or len(target[-1].encode()) > 1


def test_a_target_with_its_own_space_gets_no_second_one() -> None:
    assert continuation("a", "b") == continuation("a", " b") == "a b"
    assert continuation("a", "\nb") == "a\nb"


@given(WORDS, WORDS)
def test_a_reply_follows_its_conversation_as_it_is(said: str, reply: str) -> None:
    tokenizer = tiny_tokenizer()
    conversation = f"<pad>user: {said}\n<pad>assistant:\n"
    row = reply_row(tokenizer, conversation, reply)
    whole = tokenizer(conversation + reply)["input_ids"]
    assert [*row.ids, row.targets[-1]] == whole
    assert row.targets == tuple(whole[-len(row.targets) :])
    assert row.reads == tuple(range(len(whole) - len(row.targets) - 1, len(whole) - 1))
    assert tokenizer.decode(row.targets).endswith(reply)
