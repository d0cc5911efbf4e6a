"""Which rows a fact's scores are read from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.contracts.edits import Fact
from service.contracts.questions import Question
from worker.models.loaded import LoadedModel
from worker.models.positions import Row, next_token_row, target_row


@dataclass(frozen=True)
class AskedPrompt:
    """Where a prompt's rows are: of target_new, of target_true, and of what locality compares."""

    text: str
    new: int
    true: int | None
    locality: int


@dataclass(frozen=True)
class AskedQuestion:
    """Where the row of a question with its answer is."""

    text: str
    row: int


Groups = Mapping[str, Sequence[AskedQuestion]]


@dataclass(frozen=True)
class AskedFact:
    """Where one fact's rows are."""

    rewrite: AskedPrompt
    paraphrases: Sequence[AskedPrompt]
    neighborhood: Sequence[AskedPrompt]
    locality: Groups
    portability: Groups


def ask_fact(loaded: LoadedModel, rows: list[Row], fact: Fact) -> AskedFact:
    """Add what one fact's scores need to the rows to be run."""
    return AskedFact(
        rewrite=_ask(loaded, rows, fact.prompt, fact),
        paraphrases=[_ask(loaded, rows, prompt, fact) for prompt in fact.paraphrases],
        neighborhood=[_ask(loaded, rows, prompt, fact) for prompt in fact.neighborhood],
        locality={name: ask_questions(loaded, rows, group) for name, group in fact.locality.items()},
        portability={name: ask_questions(loaded, rows, group) for name, group in fact.portability.items()},
    )


def ask_questions(loaded: LoadedModel, rows: list[Row], questions: Sequence[Question]) -> list[AskedQuestion]:
    """Add questions with their answers to the rows to be run."""
    first = len(rows)
    rows.extend(target_row(loaded.tokenizer, question.prompt, question.answer) for question in questions)
    return [AskedQuestion(question.prompt, first + at) for at, question in enumerate(questions)]


def _ask(loaded: LoadedModel, rows: list[Row], prompt: str, fact: Fact) -> AskedPrompt:
    new = len(rows)
    rows.append(target_row(loaded.tokenizer, prompt, fact.target_new))
    if fact.target_true is None:
        rows.append(next_token_row(loaded.tokenizer, prompt))
        return AskedPrompt(prompt, new, None, new + 1)
    rows.append(target_row(loaded.tokenizer, prompt, fact.target_true))
    return AskedPrompt(prompt, new, new + 1, new + 1)
