"""The batch of all continuations in the making: rows join at the next token, and leave when they have ended."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.engine.row import Row
from worker.engine.sampling import choose
from worker.models.loaded import LoadedModel
from worker.models.padded_cache import PaddedCache
from worker.models.view import Weights

View = Callable[[Sequence[Weights]], AbstractContextManager[None]]
"""Puts weights in force for the rows of a batch; one alone holds for all rows."""

PREFILL_TOKENS = {"cpu": 256, "cuda": 8192}
"""Of prompts in one step, padding included: a longer prompt is read in parts, so that nobody waits for all of it."""


@dataclass
class _Reading:
    """Prompts that are being read: the rows and weights of each, and the tokens [P, T] of all, padded on the left."""

    rows: list[list[Row]]
    weights: list[Weights]
    ids: Tensor
    cache: PaddedCache


class Decoding:
    """Rows that are decoded together, each under its own weights, from when it joins to its end.

    A step is one forward pass: over a part of the prompts that are new, or over the last token of every row. A row's
    keys and values are its own and go with it, so none outlives the weights that it was computed with.
    """

    def __init__(self, loaded: LoadedModel, view: View) -> None:
        self._loaded = loaded
        self._view = view
        self._new: deque[Row] = deque()
        self._reading: deque[_Reading] = deque()
        self._rows: list[Row] = []
        self._cache = PaddedCache(())
        self._token_bytes = 0
        self._has_read = False

    @property
    def rows(self) -> list[Row]:
        """All rows that have not ended, whether their prompts have been read or not."""
        reading = [row for prompts in self._reading for rows in prompts.rows for row in rows]
        return [*self._rows, *reading, *self._new]

    def bytes_with(self, row: Row) -> int:
        """What keys and values may come to if this row joins; 0 before anything is known of their size."""
        rows = [*self.rows, row]
        return len(rows) * max(each.most_tokens for each in rows) * self._token_bytes

    def join(self, rows: Iterable[Row]) -> None:
        """Take in rows; their prompts are read in the next steps."""
        self._new.extend(rows)

    def leave(self, rows: Iterable[Row]) -> None:
        """Let go of rows before they have ended."""
        gone = set(map(id, rows))
        self._new = deque(row for row in self._new if id(row) not in gone)
        for prompts in self._reading:
            prompts.rows = [[row for row in rows if id(row) not in gone] for rows in prompts.rows]
        self._reading = deque(prompts for prompts in self._reading if any(prompts.rows))
        self._keep([at for at, row in enumerate(self._rows) if id(row) not in gone])

    @torch.no_grad()
    def step(self) -> list[Row]:
        """One forward pass; returns the rows that have got a token by it. Those that it ended have left.

        Where there are new prompts beside rows that go on, the two take turns.
        """
        self._has_read = bool(self._new or self._reading) and not (self._has_read and self._rows)
        if self._has_read:
            return self._read()
        return self._advance() if self._rows else []

    def _advance(self) -> list[Row]:
        rows = self._rows
        last = torch.tensor([[row.said[-1].token] for row in rows], device=self._loaded.device)
        self._say(rows, self._logits(self._cache, last, [row.wanted.weights for row in rows]))
        self._keep([at for at, row in enumerate(rows) if row.finish is None])
        return rows

    def _read(self) -> list[Row]:
        if self._new:
            self._reading.append(self._gathered())
        prompts = self._reading.popleft()
        done, (count, width) = prompts.cache.width, prompts.ids.shape
        end = min(width, done + max(1, self._most // count))
        logits = self._logits(prompts.cache, prompts.ids[:, done:end], prompts.weights)
        if end < width:
            self._reading.append(prompts)
            return []
        return self._joined(prompts, logits)

    def _gathered(self) -> _Reading:
        """As many of the new prompts as one step can read, the oldest first; those that are alike are read once."""
        prompts: dict[tuple[tuple[int, ...], int], list[Row]] = {}
        width = 0
        while self._new:
            row = self._new[0]
            key = row.ids, id(row.wanted.weights)
            width = max(width, len(row.ids))
            if prompts and (len(prompts) + (key not in prompts)) * width > self._most:
                break
            prompts.setdefault(key, []).append(self._new.popleft())
        width = max(len(ids) for ids, _ in prompts)
        pad = [self._loaded.pad_token_id]
        ids = torch.tensor([pad * (width - len(ids)) + list(ids) for ids, _ in prompts], device=self._loaded.device)
        cache = PaddedCache([width - len(ids) for ids, _ in prompts])
        rows = list(prompts.values())
        return _Reading(rows, [same[0].wanted.weights for same in rows], ids, cache)

    def _joined(self, prompts: _Reading, logits: Tensor) -> list[Row]:
        """Say the first token of every row, and let those that go on join the batch."""
        prompt_of = [at for at, rows in enumerate(prompts.rows) for _ in rows]
        rows = [row for rows in prompts.rows for row in rows]
        self._token_bytes = prompts.cache.nbytes // prompts.ids.numel()
        self._say(rows, logits[prompt_of])
        prompts.cache.blank_padding()
        prompts.cache.keep([at for at, row in zip(prompt_of, rows, strict=True) if row.finish is None])
        going_on = [row for row in rows if row.finish is None]
        if self._rows and going_on:
            self._cache.join(prompts.cache)
        elif going_on:
            self._cache = prompts.cache
        self._rows = [*self._rows, *going_on]
        return rows

    def _logits(self, cache: PaddedCache, ids: Tensor, weights: Sequence[Weights]) -> Tensor:
        """[B, V] float32 after the last of the new tokens [B, T]."""
        new, device = ids.shape[1], self._loaded.device
        inputs = {"attention_mask": cache.mask(new, device), "position_ids": cache.positions(new, device)}
        with self._loaded.reading(), self._view(weights):
            through = self._loaded.trunk(input_ids=ids, cache=cache.cache, use_cache=True, **inputs)
            return self._loaded.logits(through.last_hidden_state[:, -1])

    def _say(self, rows: Sequence[Row], logits: Tensor) -> None:
        for row, choice in zip(rows, choose(logits, [row.draw for row in rows]), strict=True):
            row.add(choice)

    def _keep(self, rows: Sequence[int]) -> None:
        if len(rows) == len(self._rows):
            return
        self._rows = [self._rows[at] for at in rows]
        if self._rows:
            self._cache.keep(rows)
        else:
            self._cache = PaddedCache(())

    @property
    def _most(self) -> int:
        return PREFILL_TOKENS.get(self._loaded.device.type, PREFILL_TOKENS["cpu"])
