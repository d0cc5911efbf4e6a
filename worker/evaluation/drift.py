"""Drift: how far edited weights are from the base's, and what text that no edit is about makes of it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property

import torch
from torch import Tensor

from service.contracts.scores import Drift
from worker.models.loaded import LoadedModel

NEUTRAL = (
    "The morning was cold, and a thin layer of ice had formed on the lake.",
    "She opened the window, looked at the garden, and poured herself a cup of tea.",
    "To make bread you need flour, water, salt and yeast, and a warm place.",
    "The committee will meet again on Thursday to discuss the budget for next year.",
    "If the train is late, we can walk along the river and have lunch in town.",
    "Most plants need light, but too much of it can dry out their leaves.",
    "He had read the letter twice before he understood what his brother wanted.",
    "Please check that all the lights are off and the door is locked when you leave.",
)
"""Everyday sentences that state no fact about anybody."""

View = Callable[[], AbstractContextManager[None]]


class DriftMeter:
    """Measures states of one model against its base, on the neutral sentences. Runs on the model thread."""

    def __init__(self, loaded: LoadedModel, base: View, sentences: Sequence[str] = NEUTRAL) -> None:
        self._loaded = loaded
        self._base = base
        self._sentences = sentences

    def measure(self, view: View, norms: dict[int, float]) -> Drift:
        """The drift of the state that `view` shows; `norms` is what is known of its weights."""
        if not norms:
            return Drift(norms={}, perplexity_ratio=1.0, kl=0.0)
        base, found = self._of_base, self._logprobs(view)
        _, targets, kept = self._batch
        kl = (base.exp() * (base - found)).sum(-1)[kept].mean()
        of_targets = [side.gather(-1, targets[..., None])[..., 0][kept].mean() for side in (base, found)]
        return Drift(
            norms=norms, perplexity_ratio=float((of_targets[0] - of_targets[1]).exp()), kl=float(kl.clamp_min(0))
        )

    @cached_property
    def _batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """ids [B, T], padded on the right; the tokens that follow, and which of them are of a sentence, [B, T - 1]."""
        loaded = self._loaded
        rows = [loaded.tokenizer(sentence)["input_ids"] for sentence in self._sentences]
        ids = torch.full((len(rows), max(map(len, rows))), loaded.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, tokens in enumerate(rows):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        ids, mask = ids.to(loaded.device), mask.to(loaded.device)
        return ids, ids[:, 1:], mask[:, 1:].bool()

    @cached_property
    def _of_base(self) -> Tensor:
        return self._logprobs(self._base)

    @torch.no_grad()
    def _logprobs(self, view: View) -> Tensor:
        """[B, T - 1, V] float32."""
        ids, _, _ = self._batch
        # without a mask: no token sees those after it, and padding in no window at all would be NaN
        with self._loaded.reading(), view():
            hidden = self._loaded.trunk(input_ids=ids, use_cache=False).last_hidden_state
            return self._loaded.logits(hidden[:, :-1]).float().log_softmax(-1)
