"""The part of a forward pass that a change at one layer and one position can influence.

A change of the MLP's output at the subject's last token moves only the layers above and the positions from there on.
Everything else is computed once: the keys and values of the prefix, and the residual stream at the edited layer.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from worker.models.batch import align, read_positions
from worker.models.hooks import captured, replaced_forward
from worker.models.loaded import LoadedModel
from worker.models.positions import Row


class SuffixPass:
    """Rows whose anchors are the subject's last token, ready to be run again and again with a changed anchor.

    keys: [B, d] float32, the MLP output projection's input at the anchors of the edited layer.
    values: [B, h] float32, its output there.
    """

    def __init__(self, loaded: LoadedModel, rows: Sequence[Row], layer: int, last_layer: int | None = None) -> None:
        self._loaded = loaded
        self._layer = layer
        self._last_layer = loaded.layers - 1 if last_layer is None else last_layer
        self._batch = align(loaded, rows)
        self._read_rows, columns = read_positions(rows, self._batch)
        self._read_columns = columns - self._batch.column
        self._run_once()

    @torch.no_grad()
    def _run_once(self) -> None:
        loaded, column = self._loaded, self._batch.column
        cache = DynamicCache()
        block = loaded.module(loaded.family.layer, self._layer)
        with captured(loaded.mlp_out(self._layer)) as mlp, captured(block) as residual:
            loaded.trunk(**self._batch.inputs(), past_key_values=cache, use_cache=True)
        self.keys = mlp.input[:, column].float()
        self.values = mlp.output[:, column].float()
        self._wraps_output = residual.wraps_output
        self._hidden = residual.output[:, column:]
        self._prefix = [
            (layer.keys[:, :, :column], layer.values[:, :, :column]) if index > self._layer else None
            for index, layer in enumerate(cache.layers)
        ]

    def hidden(self, delta: Tensor, *, at_mlp: bool) -> Tensor:
        """The trunk's output [B, T', h] from the anchors on, with `delta` [h] added at every anchor.

        at_mlp: add to the MLP's output (ROME) rather than to the residual stream after the layer (MEMIT).
        """
        anchor = self._changed_anchor(delta, at_mlp=at_mlp)
        hidden = torch.cat([anchor[:, None], self._hidden[:, 1:]], dim=1)
        loaded, batch = self._loaded, self._batch
        with ExitStack() as stack:
            for index in range(loaded.layers):
                if index <= self._layer or index > self._last_layer:
                    replacement = self._constant(hidden) if index == self._layer else self._passing_on()
                    stack.enter_context(replaced_forward(loaded.module(loaded.family.layer, index), replacement))
            output = loaded.trunk(
                inputs_embeds=self._hidden,
                attention_mask=batch.attention_mask,
                position_ids=batch.position_ids[:, batch.column :],
                past_key_values=self._cache(),
                use_cache=True,
            )
        result: Tensor = output.last_hidden_state
        return result

    def read(self, hidden: Tensor) -> Tensor:
        """Logits [M, vocabulary] at the M positions that the rows read, row after row."""
        return self._loaded.logits(hidden[self._read_rows, self._read_columns])

    def read_anchors(self, hidden: Tensor, rows: slice) -> Tensor:
        """Logits [len(rows), vocabulary] at the anchors of some rows."""
        return self._loaded.logits(hidden[rows, 0])

    def _changed_anchor(self, delta: Tensor, *, at_mlp: bool) -> Tensor:
        at = self._hidden[:, 0]
        family = self._loaded.family
        if not at_mlp or family.post_mlp is None:
            return at + delta.to(at.dtype)
        norm = self._loaded.module(family.post_mlp, self._layer)
        values = self.values.to(at.dtype)
        changed: Tensor = at - norm(values) + norm(values + delta.to(at.dtype))
        return changed

    def _cache(self) -> DynamicCache:
        cache = DynamicCache()
        for prefix in self._prefix:
            layer = DynamicLayer()
            keys, values = prefix if prefix is not None else self._placeholder()
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values
            cache.layers.append(layer)
        return cache

    def _placeholder(self) -> tuple[Tensor, Tensor]:
        """Stands for the keys of layers that do not run: only its length is ever read."""
        empty = self._hidden.new_empty((1, 1, 1, 1)).expand(self._hidden.shape[0], 1, self._batch.column, 1)
        return empty, empty

    def _constant(self, hidden: Tensor) -> Any:
        return lambda *_, **__: (hidden, None) if self._wraps_output else hidden

    def _passing_on(self) -> Any:
        return lambda hidden_states, *_, **__: (hidden_states, None) if self._wraps_output else hidden_states
