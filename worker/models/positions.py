"""From text to tokens and back: where a subject's last token is, and which tokens are the target's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Offsets = Sequence[tuple[int, int]]
"""The characters [begin, end) that each token covers; (0, 0) for special tokens."""


@dataclass(frozen=True)
class Row:
    """One sequence to run, and what to read from it.

    ids: the tokens; anchor: the index of the subject's last token (0 where no subject matters);
    reads: the indices whose logits predict `targets`.
    """

    ids: tuple[int, ...]
    anchor: int = 0
    reads: tuple[int, ...] = ()
    targets: tuple[int, ...] = ()


def subject_end(prompt: str, subject: str) -> int:
    """The index after the subject's last character in the prompt.

    Of several occurrences the last one that stands alone as a word counts, else the last one: what follows it is all
    that an edit can influence. Raises ValueError if there is none.
    """
    found = [at for at in range(len(prompt)) if prompt.startswith(subject, at)]
    if not found:
        raise ValueError(f"{subject!r} does not occur in {prompt!r}")
    words = [at for at in found if _is_word(prompt, at, at + len(subject))]
    return (words or found)[-1] + len(subject)


def _is_word(text: str, begin: int, end: int) -> bool:
    return not (text[begin - 1 : begin].isalnum() and text[begin].isalnum()) and not (
        text[end : end + 1].isalnum() and text[end - 1].isalnum()
    )


def last_token_before(offsets: Offsets, end: int) -> int:
    """The last token that begins before the character `end`: the one that covers the character before it.

    A character may be spread over several tokens; then it is the last of them.
    """
    return max(index for index, (begin, stop) in enumerate(offsets) if begin < end and begin < stop)


def continuation(prompt: str, target: str) -> str:
    """The prompt followed by the target, with one space between them."""
    return prompt + (target if target[0].isspace() else " " + target)


def target_row(tokenizer: Any, prompt: str, target: str, subject: str | None = None, prefix: str = "") -> Row:
    """prefix + prompt + target without the target's last token, read where each target token is predicted."""
    text = prefix + prompt
    encoded = tokenizer(continuation(text, target), return_offsets_mapping=True)
    offsets = encoded["offset_mapping"]
    anchor = 0 if subject is None else last_token_before(offsets, len(prefix) + subject_end(prompt, subject))
    return _read_after(len(text), encoded["input_ids"], offsets, anchor)


def reply_row(tokenizer: Any, conversation: str, reply: str) -> Row:
    """As `target_row`, of a conversation in its chat template, up to where the model is to speak, and of its reply.

    The template has put in all special tokens and white space already.
    """
    encoded = tokenizer(conversation + reply, add_special_tokens=False, return_offsets_mapping=True)
    return _read_after(len(conversation), encoded["input_ids"], encoded["offset_mapping"])


def _read_after(length: int, ids: Sequence[int], offsets: Offsets, anchor: int = 0) -> Row:
    """Tokens without the last one, read where each token that reaches beyond `length` characters is predicted."""
    where = [index for index, (begin, end) in enumerate(offsets) if end > length and end > begin]
    return Row(
        ids=tuple(ids[: where[-1]]),
        anchor=anchor,
        reads=tuple(index - 1 for index in where),
        targets=tuple(ids[index] for index in where),
    )


def subject_row(tokenizer: Any, prompt: str, subject: str, prefix: str = "") -> Row:
    """The prompt up to the subject's last token, read there; there is no target."""
    encoded = tokenizer(prefix + prompt, return_offsets_mapping=True)
    anchor = last_token_before(encoded["offset_mapping"], len(prefix) + subject_end(prompt, subject))
    return Row(ids=tuple(encoded["input_ids"][: anchor + 1]), anchor=anchor, reads=(anchor,))


def next_token_row(tokenizer: Any, prompt: str) -> Row:
    """The prompt, read where the next token is predicted; there is no target."""
    ids = tuple(tokenizer(prompt)["input_ids"])
    return Row(ids=ids, reads=(len(ids) - 1,))
