"""Which tokens are the subject's, what they are called, and which answer is traced."""

import pytest
import torch

from tests.families import tiny_model, tiny_tokenizer
from worker.models.positions import target_row
from worker.tracing.asked import ask, subject_tokens

PARIS = "The Eiffel Tower is located in the city of"


def covered(prompt: str, subject: str) -> str:
    """The characters that the subject's tokens have."""
    offsets = tiny_tokenizer()(prompt, return_offsets_mapping=True)["offset_mapping"]
    found = subject_tokens(offsets, prompt, subject)
    return prompt[offsets[found[0]][0] : offsets[found[-1]][1]]


@pytest.mark.parametrize(
    ("prompt", "subject"),
    [
        (PARIS, "The Eiffel Tower"),
        (f"Yes, {PARIS}", "Eiffel"),
        ("Messi or Lionel Messi plays", "Messi"),
        ("Question: Москва", "Москва"),
        ("東京は日本の首都です。", "日本"),
    ],
)
def test_the_subjects_tokens_cover_it_and_no_more_than_a_token_beyond(prompt: str, subject: str) -> None:
    text = covered(prompt, subject)
    assert subject in text
    assert len(text) <= len(subject) + 1, "the space before it may be its first token's, as may a character behind it"


def test_of_several_occurrences_the_last_counts() -> None:
    prompt = "Messi, and Messi plays"
    offsets = tiny_tokenizer()(prompt, return_offsets_mapping=True)["offset_mapping"]
    assert offsets[subject_tokens(offsets, prompt, "Messi")[-1]][1] == prompt.rindex("Messi") + len("Messi")


def test_tokens_are_the_prompts_own_text() -> None:
    asked = ask(tiny_model("llama"), PARIS, "The Eiffel Tower", "Rome")
    assert "".join(asked.tokens) == PARIS
    assert asked.answer == "Rome"
    assert asked.row == target_row(tiny_tokenizer(), PARIS, "Rome")
    parts = ask(tiny_model("llama"), "Question: 東京", "東京", "Rome")
    assert "\ufffd" not in "".join(parts.tokens)
    assert parts.tokens[-1] == "京"


def test_without_a_target_it_is_the_models_own_answer() -> None:
    loaded = tiny_model("llama")
    asked = ask(loaded, PARIS, "The Eiffel Tower")
    ids = tiny_tokenizer()(PARIS)["input_ids"]
    with torch.no_grad():
        likeliest = int(loaded.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
    assert (asked.row.ids, asked.row.targets) == (tuple(ids), (likeliest,))
    assert asked.row.reads == (len(ids) - 1,)
    assert asked.answer == tiny_tokenizer().decode([likeliest]).strip()
