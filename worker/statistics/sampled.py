"""Text that the model writes itself, so that a new model can be edited with no download at all."""

from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from worker.models.loaded import LoadedModel
from worker.statistics.disk import whole
from worker.statistics.windows import ROWS, window_length

BATCHES = 4
"""Batches written together: reading the weights costs more than computing with them."""


def batches(loaded: LoadedModel, directory: Path, tokens: int, first: int) -> Iterator[Tensor | None]:
    """Batches [ROWS, WINDOW] of text sampled at temperature 1 from the start-of-text token; the first ones are skipped.

    None after each token of a text that is still being written. What has been written is kept in the directory, and
    read again by whoever asks for other layers or more tokens: texts of one number are the same, whatever is asked.
    """
    needed = -(-tokens // (ROWS * window_length(loaded)))
    for number in range(first // BATCHES, -(-needed // BATCHES)):
        path = directory / f"{number:06}.npy"
        if not path.is_file():
            texts = yield from _written(loaded, number)
            with whole(path) as file:
                np.save(file, texts.to(torch.int32).cpu().numpy())
        texts = torch.from_numpy(np.load(path, allow_pickle=False)).long().to(loaded.device)
        begin = number * BATCHES
        yield from torch.split(texts, ROWS)[max(0, first - begin) : needed - begin]


def _written(loaded: LoadedModel, seed: int) -> Generator[None, None, Tensor]:
    """Texts [BATCHES * ROWS, WINDOW]."""
    generator = torch.Generator().manual_seed(seed)
    begin = loaded.tokenizer.bos_token_id
    begin = loaded.pad_token_id if begin is None else begin
    ids = torch.full((BATCHES * ROWS, 1), begin, device=loaded.device)
    text, cache = [ids], DynamicCache(config=loaded.model.config)
    for _ in range(window_length(loaded) - 1):
        with torch.no_grad(), loaded.reading():
            output = loaded.model(input_ids=ids, cache=cache, use_cache=True, logits_to_keep=1)
            ids = _drawn(output.logits[:, -1], generator)
        text.append(ids)
        yield
    return torch.cat(text, dim=1)


def _drawn(logits: Tensor, generator: torch.Generator) -> Tensor:
    """A token for each row [B, 1], by inverting the distribution, so that the draws are the same on every device."""
    cumulative = logits.double().softmax(-1).cumsum(-1)
    draws = torch.rand(len(logits), 1, generator=generator, dtype=torch.float64).to(logits.device)
    found = torch.searchsorted(cumulative, draws * cumulative[:, -1:], right=True)
    return found.clamp(max=logits.shape[-1] - 1)
