"""The keys of many facts at a layer, and what the model says at their subjects now."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from worker.editing.context import FactLike
from worker.editing.progress import Step, Steps
from worker.models.alike import at_last_tokens, common_start
from worker.models.loaded import LoadedModel
from worker.models.memory import MOST_TOKENS, token_budget
from worker.models.positions import Row, subject_row

FEW, LONGER = 16, 1.4
"""Rows that share a chunk whatever their lengths; beyond, how many times as long as the shortest one may be."""


class SubjectRows:
    """Every fact's prompt up to the subject's last token, bare and after each prefix: all that a key depends on."""

    def __init__(self, loaded: LoadedModel, facts: Sequence[FactLike], prefixes: Sequence[str]) -> None:
        def rows(prefix: str) -> list[Row]:
            return [subject_row(loaded.tokenizer, fact.prompt, fact.subject, prefix) for fact in facts]

        self._loaded = loaded
        self._bare = rows("")
        self._prefixed = [rows(prefix) for prefix in prefixes if prefix]

    def keys_and_values(self, layer: int, value_layer: int, *, at_mlp: bool) -> Steps[tuple[Tensor, Tensor]]:
        """K, [d, N], and what `value_layer` says at the bare prompts' anchors, [h, N], both float32.

        A fact's key is the mean of its bare prompt's and of the mean over the prefixed ones (MEMIT, section 4.2).
        at_mlp: what the MLP of `value_layer` says, rather than the residual stream after the layer.
        """
        family = self._loaded.family
        saying = self._loaded.module(family.mlp_out if at_mlp else family.layer, value_layer)
        keys, values = yield from self._at(self._bare, layer, saying)
        if not self._prefixed:
            return keys.T, values.T
        total = torch.zeros_like(keys)
        for rows in self._prefixed:
            total += (yield from self._at(rows, layer, None))[0]
        return ((keys + total / len(self._prefixed)) / 2).T, values.T

    def said(self, layer: int) -> Steps[Tensor]:
        """What the MLP of a layer says at the bare prompts' anchors, [h, N]."""
        module = self._loaded.mlp_out(layer)
        return (yield from self._at(self._bare, layer, module))[1].T

    def _at(self, rows: Sequence[Row], layer: int, saying: nn.Module | None) -> Steps[tuple[Tensor, Tensor]]:
        keys: list[Tensor] = []
        values: list[Tensor] = []
        order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
        for chunk in self._chunks([rows[index] for index in order]):
            key, value = at_last_tokens(self._loaded, chunk, self._loaded.mlp_out(layer), saying)
            keys.append(key)
            values.append(value)
            yield Step("keys", sum(map(len, keys)), len(rows))
        back = torch.argsort(torch.tensor(order))
        return torch.cat(keys)[back], torch.cat(values)[back]

    def _chunks(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        """Rows, shortest first, that are worth one step; what is not common to all of them is of alike length.

        Without gradients a token holds next to nothing, so only the time of one step bounds a chunk.
        """
        loaded = self._loaded
        most = 4 * MOST_TOKENS.get(loaded.device.type, MOST_TOKENS["cpu"])
        tokens = min(most, loaded.layers * token_budget(loaded, loaded.layers))
        common = common_start(rows)
        chunk: list[Row] = []
        for row in rows:
            own = len(row.ids) - common
            if chunk and (
                (len(chunk) + 1) * own > tokens or (len(chunk) >= FEW and own > LONGER * (len(chunk[0].ids) - common))
            ):
                yield chunk
                chunk = []
            chunk.append(row)
        yield chunk
