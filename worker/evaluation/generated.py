"""Scores of what a model says freely: does it name the target, how varied are its texts, how near to references."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from service.contracts.edits import Fact
from service.contracts.generate import Sampling
from service.contracts.records import Record
from service.contracts.scores import Generated
from worker.editing.progress import Steps
from worker.evaluation.summary import share
from worker.evaluation.tfidf import Tfidf
from worker.evaluation.words import ngram_entropy
from worker.models.loaded import LoadedModel

ANSWER_TOKENS = 24
"""Length of a greedy answer."""

TEXT_TOKENS = 100
"""Length of a sampled text, its prompt included, as kmeng01's code and EasyEdit cut it."""

TOP_K = 5
"""Of the sampling, as there."""


@dataclass(frozen=True)
class Speech:
    """One continuation to be had: of which prompt, on which side, and how."""

    prompt: str
    edited: bool
    sampling: Sampling


Say = Callable[[Sequence[Speech]], Steps[list[str]]]
"""Continues prompts, in steps; the texts come without their prompts, in the order of the prompts."""


@dataclass(frozen=True)
class Spoken:
    """What one side of a record said freely: its scores, and the texts that were sampled after generation_prompts."""

    scores: Generated
    texts: tuple[str, ...]


def speak(
    loaded: LoadedModel, records: Sequence[Record], say: Say, references: Tfidf | None = None
) -> Steps[list[tuple[Spoken, Spoken]]]:
    """What the base and what the edited weights say to each record, sampled with the same seeds.

    references: fitted to more texts than these records', where they are scored part by part.
    """
    speeches = [
        speech for record in records for edited in (False, True) for speech in _speeches(loaded, record, edited)
    ]
    said = iter((yield from say(speeches)))
    fitted = references or fitted_to(records)
    return [(_spoken(record, said, fitted), _spoken(record, said, fitted)) for record in records]


def fitted_to(records: Iterable[Record]) -> Tfidf:
    """TF-IDF over all reference texts of some records."""
    return Tfidf(text for record in records for text in record.reference_texts)


def _speeches(loaded: LoadedModel, record: Record, edited: bool) -> Iterator[Speech]:
    """In the order in which `_spoken` takes what was said."""
    greedy = Sampling(max_new_tokens=ANSWER_TOKENS)
    for prompt, _ in _asked(record):
        yield Speech(prompt, edited, greedy)
    for number, prompt in enumerate(_continued(record)):
        length = TEXT_TOKENS - len(loaded.tokenizer(prompt)["input_ids"])
        sampling = Sampling(max_new_tokens=max(1, length), temperature=1.0, top_k=TOP_K, seed=number)
        yield Speech(prompt, edited, sampling)


def _asked(record: Record) -> Iterator[tuple[str, Sequence[str]]]:
    """Every prompt that has a right answer, with all its names."""
    for fact in record.facts:
        for prompt in (fact.prompt, *fact.paraphrases):
            yield prompt, (fact.target_new,)
        for group in fact.portability.values():
            for question in group:
                yield question.prompt, question.answers
    for question in record.multi_hop:
        yield question.prompt, question.answers


def _continued(record: Record) -> tuple[str, ...]:
    return (*(fact.prompt for fact in record.facts), *record.generation_prompts)


def _spoken(record: Record, said: Iterator[str], references: Tfidf) -> Spoken:
    """One side's scores; takes from `said` what is this side's."""
    right = iter([names(next(said), answers) for _, answers in _asked(record)])
    facts = [_of_fact(fact, right) for fact in record.facts]
    hops = list(right)
    texts = [_plain(f"{prompt}{next(said)}") for prompt in _continued(record)]
    entropies = [ngram_entropy(text) for text in texts]
    about = len(record.facts)
    consistency = (
        references.similarity(" ".join(texts[about:]), " ".join(record.reference_texts))
        if record.reference_texts and record.generation_prompts
        else None
    )
    groups = dict.fromkeys(name for fact in facts for name in fact.portability)
    scores = Generated(
        rewrite_acc=share(fact.rewrite_acc for fact in facts),
        rephrase_acc=share(fact.rephrase_acc for fact in facts),
        portability={name: share(fact.portability.get(name) for fact in facts) or 0.0 for name in groups},
        multi_hop_acc=float(any(hops)) if hops else None,
        GE=share(entropies[about:]),
        RS=consistency,
        fluency=share(entropies[:about]),
    )
    return Spoken(scores, tuple(texts[about:]))


def _of_fact(fact: Fact, right: Iterator[bool]) -> Generated:
    """The answers' part of one fact."""
    rewrite = next(right)
    rephrase = share(_next(right, len(fact.paraphrases)))
    groups = {f"{name}_acc": share(_next(right, len(group))) for name, group in fact.portability.items()}
    found = {name: value for name, value in groups.items() if value is not None}
    return Generated(rewrite_acc=float(rewrite), rephrase_acc=rephrase, portability=found)


def _next(values: Iterator[bool], count: int) -> list[bool]:
    return [next(values) for _ in range(count)]


def names(text: str, answers: Iterable[str]) -> bool:
    """Whether the first line that is not blank has one of the answers as words, capitals or not."""
    line = next((line for line in text.splitlines() if line.strip()), "").casefold()
    return any(re.search(rf"(?<!\w){re.escape(answer.strip().casefold())}(?!\w)", line) for answer in answers)


def _plain(text: str) -> str:
    """As kmeng01's code and EasyEdit take a text before they count its words."""
    return unicodedata.normalize("NFKD", text).replace("\n\n", " ")
