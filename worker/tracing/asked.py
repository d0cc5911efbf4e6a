"""What is traced: a prompt's tokens, the subject's among them, and where the answer is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from worker.models.loaded import LoadedModel
from worker.models.positions import Offsets, Row, last_token_before, next_token_row, subject_end, target_row
from worker.models.reads import read_rows


@dataclass(frozen=True)
class Asked:
    """A prompt with the answer that is traced.

    row: the prompt and the answer without its last token, read where each token of the answer is predicted.
    tokens: the prompt's, as text; subject: which of them are the subject's; answer: the answer's text.
    """

    row: Row
    tokens: tuple[str, ...]
    subject: range
    answer: str


def ask(loaded: LoadedModel, prompt: str, subject: str, target: str | None = None) -> Asked:
    """A prompt with its target, or with the one token that the model itself finds likeliest now."""
    tokenizer = loaded.tokenizer
    row = _own_answer(loaded, prompt) if target is None else target_row(tokenizer, prompt, target)
    length = row.reads[0] + 1
    offsets = tokenizer(prompt, return_offsets_mapping=True)["offset_mapping"]
    labels = tuple(_label(tokenizer, row.ids[at], prompt, offsets, at) for at in range(length))
    answer = tokenizer.decode(list(row.targets)).strip() if target is None else target
    return Asked(row, labels, subject_tokens(offsets, prompt, subject), answer)


def subject_tokens(offsets: Offsets, prompt: str, subject: str) -> range:
    """The tokens that have a character of the subject; of several occurrences, of the one that edits take."""
    end = subject_end(prompt, subject)
    begin = end - len(subject)
    first = next(index for index, (start, stop) in enumerate(offsets) if stop > begin and stop > start)
    return range(first, last_token_before(offsets, end) + 1)


@torch.no_grad()
def _own_answer(loaded: LoadedModel, prompt: str) -> Row:
    row = next_token_row(loaded.tokenizer, prompt)
    (read,) = read_rows(loaded, [Row(row.ids, 0, row.reads, (0,))])
    return Row(row.ids, 0, row.reads, (int(read.argmax[0]),))


def _label(tokenizer: Any, token: int, prompt: str, offsets: Sequence[tuple[int, int]], at: int) -> str:
    """A token's own text; where it is a part of a character, that character."""
    text = str(tokenizer.decode([token]))
    begin, end = offsets[at] if at < len(offsets) else (0, 0)
    return prompt[begin:end] if "\ufffd" in text and end > begin else text
