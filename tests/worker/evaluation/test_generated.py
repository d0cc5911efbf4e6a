"""Free answers and texts are scored as they were said, on each side by itself, and sampled alike on both."""

from collections.abc import Sequence
from statistics import fmean

import pytest

from service.contracts.records import Record
from tests.driving import finish
from tests.families import tiny_model
from worker.editing.progress import Step, Steps
from worker.evaluation.generated import ANSWER_TOKENS, TEXT_TOKENS, Say, Speech, fitted_to, names, speak
from worker.evaluation.tfidf import Tfidf
from worker.evaluation.words import ngram_entropy

RECORD = Record.model_validate(
    {
        "case_id": 3,
        "facts": [
            {
                "prompt": "The Eiffel Tower is in",
                "subject": "The Eiffel Tower",
                "target_new": "Rome",
                "paraphrases": ["Where is the Eiffel Tower?", "Go to"],
                "portability": {
                    "reasoning": [{"prompt": "Its country is", "answer": "Italy", "aliases": ["Italia"]}],
                    "none": [],
                },
            },
            {"prompt": "Messi plays", "subject": "Messi", "target_new": "chess"},
        ],
        "multi_hop": [{"prompt": "One?", "answer": "Ada"}, {"prompt": "Two?", "answer": "Ada"}],
        "generation_prompts": ["Say", "Say"],
        "reference_texts": ["Rome has a forum", "In Rome there are hills"],
    }
)

SAID = {
    "The Eiffel Tower is in": " the city of ROME.\nParis",
    "Where is the Eiffel Tower?": "\n\n Rome, I think",
    "Go to": " Romeo",
    "Its country is": " Italia",
    "Messi plays": " football\nchess",
    "One?": " Bo",
    "Two?": " it is Ada",
    "Say": " Rome has hills and hills and\n\nhills",
}


def speaking(asked: list[Speech]) -> Say:
    """Says what is written above when it is edited, and nothing before."""

    def say(speeches: Sequence[Speech]) -> Steps[list[str]]:
        yield Step("generate")
        asked.extend(speeches)
        return [SAID[speech.prompt] if speech.edited else "" for speech in speeches]

    return say


def test_scores_of_what_was_said() -> None:
    ((before, after),) = finish(speak(tiny_model("llama"), [RECORD], speaking([])))
    scores = after.scores
    assert scores.rewrite_acc == 0.5, "chess is not in the first line"
    assert scores.rephrase_acc == 0.5, "Romeo is not Rome"
    assert scores.portability == {"reasoning_acc": 1.0}, "by an alias"
    assert scores.multi_hop_acc == 1.0, "one of both"
    text = "Say Rome has hills and hills and hills"
    assert after.texts == (text, text)
    assert pytest.approx(ngram_entropy(text)) == scores.GE
    rewritten = [f"{prompt}{SAID[prompt]}" for prompt in ("The Eiffel Tower is in", "Messi plays")]
    assert scores.fluency == pytest.approx(fmean(map(ngram_entropy, rewritten)))
    references = RECORD.reference_texts
    assert pytest.approx(Tfidf(references).similarity(f"{text} {text}", " ".join(references))) == scores.RS
    assert before.scores.rewrite_acc == before.scores.rephrase_acc == before.scores.multi_hop_acc == 0
    assert before.texts == ("Say", "Say")


def test_references_may_be_fitted_to_more_than_what_is_scored() -> None:
    other = RECORD.model_copy(update={"reference_texts": ("hills and more hills", "hills")})
    ((_, alone),) = finish(speak(tiny_model("llama"), [RECORD], speaking([])))
    ((_, among),) = finish(speak(tiny_model("llama"), [RECORD], speaking([]), fitted_to([RECORD, other])))
    (together, _) = finish(speak(tiny_model("llama"), [RECORD, other], speaking([])))
    assert among.scores.RS == together[1].scores.RS != alone.scores.RS


def test_nothing_is_scored_that_was_not_asked() -> None:
    bare = Record.model_validate({"case_id": 0, "facts": [RECORD.facts[1]]})
    ((_, after),) = finish(speak(tiny_model("llama"), [bare], speaking([])))
    assert after.scores.model_dump(exclude_none=True) == {
        "rewrite_acc": 0.0,
        "portability": {},
        "fluency": ngram_entropy("Messi plays football\nchess"),
    }
    assert after.texts == ()


def test_answers_are_greedy_and_texts_sampled_alike_on_both_sides() -> None:
    asked: list[Speech] = []
    loaded = tiny_model("llama")
    finish(speak(loaded, [RECORD], speaking(asked)))
    sides = [[(speech.prompt, speech.sampling) for speech in asked if speech.edited is side] for side in (False, True)]
    assert sides[0] == sides[1]
    answers = [sampling for _, sampling in sides[0] if sampling.temperature == 0]
    assert {sampling.max_new_tokens for sampling in answers} == {ANSWER_TOKENS}
    assert len(answers) == 7
    texts = [(prompt, sampling) for prompt, sampling in sides[0] if sampling.temperature > 0]
    assert [prompt for prompt, _ in texts] == ["The Eiffel Tower is in", "Messi plays", "Say", "Say"]
    assert len({sampling.seed for _, sampling in texts}) == 4, "the same prompt twice is two texts"
    for prompt, sampling in texts:
        assert sampling.max_new_tokens == TEXT_TOKENS - len(loaded.tokenizer(prompt)["input_ids"])
        assert sampling.top_k == 5


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        (" Rome", "Rome", True),
        (" it is rome!", " Rome ", True),
        (" Rome's", "Rome", True),
        (" Romeo", "Rome", False),
        (" chrome", "Rome", False),
        ("\n \n Rome", "Rome", True),
        (" Paris\nRome", "Rome", False),
        ("", "Rome", False),
        (" C++ (the language)", "C++", True),
        (" STRASSE", "straße", True),
    ],
)
def test_an_answer_is_named_by_whole_words_in_the_first_line(text: str, answer: str, right: bool) -> None:
    assert names(text, [answer]) is right
    assert names(text, ["something else", answer]) is right
