"""Documents cut into windows of tokens, one after the other without a gap, and put together as batches."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from worker.errors import EditError
from worker.models.loaded import LoadedModel

WINDOW = 256
"""Most tokens in one sequence, however long the model's context: keys depend little on more, and memory does."""

ROWS = 8
"""Sequences run at once: as large a step as readers can wait for on a CPU."""


def window_length(loaded: LoadedModel) -> int:
    """Tokens in one sequence."""
    return min(WINDOW, loaded.context_length)


def batches(loaded: LoadedModel, documents: Iterable[str | None], tokens: int, first: int) -> Iterator[Tensor | None]:
    """Batches [<= ROWS, <= WINDOW] with the documents' first `tokens` tokens.

    None in place of the first batches, which are only skipped, and where a document was None. Every window begins with
    what the tokenizer puts before a text, which counts. Raises EditError if the documents are too short.
    """
    number = 0
    for rows in _grouped(_windows(loaded, documents), tokens):
        if rows is not None:
            number += 1
        yield None if rows is None or number <= first else torch.tensor(rows, device=loaded.device)


def _grouped(windows: Iterable[list[int] | None], tokens: int) -> Iterator[list[list[int]] | None]:
    rows: list[list[int]] = []
    left = tokens
    for row in windows:
        if row is None:
            yield None
            continue
        if rows and len(row) < len(rows[0]):  # the text's end, shorter than a window
            yield rows
            rows = []
        rows.append(row)
        left -= len(row)
        if len(rows) == ROWS or left <= 0:
            yield rows
            rows = []
        if left <= 0:
            return
    raise EditError(
        "corpus-too-short",
        "hparams.mom2_n_tokens",
        f"{tokens} tokens are needed, and the text has {tokens - left}; ask for fewer or give the worker a longer one",
    )


def _windows(loaded: LoadedModel, documents: Iterable[str | None]) -> Iterator[list[int] | None]:
    begin = list(loaded.tokenizer("")["input_ids"])
    room = window_length(loaded) - len(begin)
    held: list[int] = []
    for document in documents:
        if document is None:
            yield None
            continue
        held += loaded.tokenizer.backend_tokenizer.encode(document, add_special_tokens=False).ids
        whole = len(held) // room * room
        for at in range(0, whole, room):
            yield begin + held[at : at + room]
        held = held[whole:]
    if held:
        yield begin + held
