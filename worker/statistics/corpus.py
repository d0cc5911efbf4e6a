"""Text to take key statistics over: a local file, or text that the model writes itself."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from worker.errors import EditError
from worker.models.loaded import LoadedModel

WINDOW = 256
"""Tokens in one sequence; keys depend little on a longer context, and memory does."""

ROWS = 16
"""Sequences run at once."""


def from_file(loaded: LoadedModel, path: Path, tokens: int) -> Iterator[Tensor]:
    """Batches [<= ROWS, <= WINDOW] of the file's first `tokens` tokens; raises EditError if it is too short."""
    window = min(WINDOW, loaded.context_length)
    windows: list[Tensor] = []
    left = tokens
    held: list[int] = []
    for line in _lines(path):
        held += loaded.tokenizer(line, add_special_tokens=False)["input_ids"]
        while len(held) >= window and left > 0:
            windows.append(torch.tensor(held[:window]))
            held, left = held[window:], left - window
            if len(windows) == ROWS or left <= 0:
                yield torch.stack(windows).to(loaded.device)
                windows = []
        if left <= 0:
            return
    raise EditError(
        "corpus-too-short",
        "hparams.mom2_n_tokens",
        f"asks for {tokens} tokens, and the worker's corpus has {tokens - left}; ask for fewer or give a longer file",
    )


@torch.no_grad()
def from_model(loaded: LoadedModel, tokens: int, seed: int) -> Iterator[Tensor]:
    """Batches [ROWS, WINDOW // 2] sampled from the model at temperature 1, each from its start-of-text token."""
    length = min(WINDOW // 2, loaded.context_length)
    generator = torch.Generator().manual_seed(seed)
    begin = loaded.tokenizer.bos_token_id
    begin = loaded.pad_token_id if begin is None else begin
    for _ in range(0, tokens, ROWS * length):
        ids = torch.full((ROWS, 1), begin, device=loaded.device)
        text, cache = [ids], None
        for _ in range(length - 1):
            output = loaded.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = output.past_key_values
            likely = output.logits[:, -1].float().softmax(-1).cpu()
            ids = torch.multinomial(likely, 1, generator=generator).to(loaded.device)
            text.append(ids)
        yield torch.cat(text, dim=1)


def digest(path: Path) -> str:
    """sha256 of a corpus file; raises EditError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(error) from error


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as lines:
            yield from lines
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError | UnicodeDecodeError) -> EditError:
    reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
    detail = f"the worker's PALIMPSEST_CORPUS cannot be read ({reason}); mend it, or use 'self'"
    return EditError("corpus-unreadable", "hparams.mom2_dataset", detail)
