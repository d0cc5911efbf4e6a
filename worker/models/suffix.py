"""The part of a forward pass that a change at one layer and one position can influence.

A change at one layer at the subject's last token moves only the layers above and the positions from there on.
Everything else is computed once: the keys and values of the prefix, and the residual stream at the edited layer.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from worker.models.batch import Batch, align, read_positions
from worker.models.hooks import captured, replaced_forward
from worker.models.loaded import LoadedModel, precise
from worker.models.positions import Row


class SuffixPass:
    """Rows whose anchors are the subject's last token, ready to be run again and again with changed anchors.

    keys: [B, d] float32, the MLP output projection's input at the anchors of the edited layer.
    values: [B, h] float32, its output there. stream: [B, h] float32, the residual stream after the layer there.
    (All three float64 for a model in float64.)

    loaded: the model, whose own dtype what is computed once is computed in; twin: the one that runs again and again.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        rows: Sequence[Row],
        layer: int,
        last_layer: int | None = None,
        twin: LoadedModel | None = None,
    ) -> None:
        self._loaded = loaded if twin is None else twin
        self._layer = layer
        self._last_layer = loaded.layers - 1 if last_layer is None else last_layer
        batch = align(loaded, rows)
        self._column = batch.column
        self._mask = batch.attention_mask
        self._positions = batch.position_ids[:, batch.column :]
        self._read_rows, columns = read_positions(rows, batch)
        self._read_columns = columns - batch.column
        self._run_once(loaded, batch)

    @torch.no_grad()
    def _run_once(self, loaded: LoadedModel, batch: Batch) -> None:
        block = loaded.module(loaded.family.layer, self._layer)
        with captured(block, stop=True) as residual, captured(loaded.mlp_out(self._layer)) as mlp:
            loaded.trunk(**batch.inputs(), use_cache=False)
        self.keys = precise(batch.at_anchors(mlp.input))
        self.values = precise(batch.at_anchors(mlp.output))
        self.stream = precise(batch.at_anchors(residual.output))
        self._wraps_output = residual.wraps_output
        stream = residual.output.to(self._loaded.mlp_out(loaded.layers - 1).weight.dtype)
        column = batch.column
        self._rest = stream[:, column + 1 :]
        self._prefix: list[tuple[Tensor, Tensor] | None] = [None] * loaded.layers
        if column:
            cache = DynamicCache()
            self._run(stream[:, :column], batch.attention_mask[:, :column], batch.position_ids[:, :column], cache)
            for index in range(self._layer + 1, self._last_layer + 1):
                self._prefix[index] = cache.layers[index].keys, cache.layers[index].values

    @property
    def size(self) -> tuple[int, int]:
        """Rows, and positions from the anchors on."""
        rows, positions = self._positions.shape
        return int(rows), int(positions)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only: indices [B'], ascending."""
        place = torch.full((self.size[0],), -1, device=rows.device)
        place[rows] = torch.arange(len(rows), device=rows.device)
        for name in ("keys", "values", "stream", "_mask", "_positions", "_rest"):
            setattr(self, name, getattr(self, name)[rows])
        self._prefix = [None if pair is None else (pair[0][rows], pair[1][rows]) for pair in self._prefix]
        kept = place[self._read_rows] >= 0
        self._read_rows, self._read_columns = place[self._read_rows[kept]], self._read_columns[kept]

    def hidden(self, delta: Tensor, *, at_mlp: bool) -> Tensor:
        """The trunk's output [B, T', h] from the anchors on, with `delta` ([h], or [B, h] row by row) added there.

        at_mlp: add to the MLP's output (ROME) rather than to the residual stream after the layer (MEMIT).
        """
        anchor = self._changed_anchor(delta, at_mlp=at_mlp).to(self._rest.dtype)
        residual = torch.cat([anchor[:, None], self._rest], dim=1)
        return self._run(residual, self._mask, self._positions, self._cache(residual))

    def read(self, hidden: Tensor) -> Tensor:
        """The trunk's output [M, h] at the M positions that the rows read, row after row."""
        return hidden[self._read_rows, self._read_columns]

    def _run(self, residual: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache) -> Tensor:
        """The trunk's output [B, T', h] for the residual stream after the edited layer [B, T', h]."""
        loaded = self._loaded
        with ExitStack() as stack:
            for index in range(loaded.layers):
                if index <= self._layer or index > self._last_layer:
                    replacement = self._constant(residual) if index == self._layer else self._passing_on()
                    stack.enter_context(replaced_forward(loaded.module(loaded.family.layer, index), replacement))
            output = loaded.trunk(
                inputs_embeds=residual.detach(),
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            )
        result: Tensor = output.last_hidden_state
        return result

    def _changed_anchor(self, delta: Tensor, *, at_mlp: bool) -> Tensor:
        family = self._loaded.family
        if not at_mlp or family.post_mlp is None:
            return self.stream + delta
        norm = self._loaded.module(family.post_mlp, self._layer)
        changed: Tensor = self.stream - norm(self.values) + norm(self.values + delta)
        return changed

    def _cache(self, residual: Tensor) -> DynamicCache:
        cache = DynamicCache()
        for prefix in self._prefix if self._column else ():  # an empty cache takes any shape
            layer = DynamicLayer()
            keys, values = prefix if prefix is not None else self._placeholder(residual)
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values
            cache.layers.append(layer)
        return cache

    def _placeholder(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Stands for the keys of layers that do not run: only its length is ever read."""
        empty = residual.detach().new_empty((1, 1, 1, 1)).expand(residual.shape[0], 1, self._column, 1)
        return empty, empty

    def _constant(self, hidden: Tensor) -> Any:
        return lambda *_, **__: (hidden, None) if self._wraps_output else hidden

    def _passing_on(self) -> Any:
        return lambda hidden_states, *_, **__: (hidden_states, None) if self._wraps_output else hidden_states
