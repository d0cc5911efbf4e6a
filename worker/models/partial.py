"""The part of a forward pass that is worth repeating: some of the blocks, for the positions from the anchors on."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from worker.models.batch import Batch, read_positions
from worker.models.hooks import replaced_forward
from worker.models.loaded import LoadedModel
from worker.models.positions import Row


class PartialPass:
    """Blocks `first` to `last` of a batch's rows, run again and again on what enters them from the anchors on.

    The keys and values that these blocks have for the positions before the anchors are computed once, by `begin`.

    wraps_output: whether a block's output is the first of a tuple.
    """

    def __init__(
        self, loaded: LoadedModel, rows: Sequence[Row], batch: Batch, first: int, last: int, *, wraps_output: bool
    ) -> None:
        self._loaded = loaded
        self._first = first
        self._last = last
        self._wraps_output = wraps_output
        self._column = batch.column
        self._mask = batch.attention_mask
        self._positions = batch.position_ids
        self._read_rows, columns = read_positions(rows, batch)
        self._read_columns = columns - batch.column
        self._prefix: list[tuple[Tensor, Tensor] | None] = [None] * loaded.layers

    @torch.no_grad()
    def begin(self, entering: Tensor) -> Tensor:
        """Run the positions before the anchors; returns what enters from the anchors on, [B, T', h] of [B, T, h]."""
        column, positions = self._column, self._positions
        entering = entering.to(self._loaded.mlp_out(self._loaded.layers - 1).weight.dtype)
        self._positions = positions[:, column:]
        if column:
            cache = DynamicCache()
            self._run(entering[:, :column], self._mask[:, :column], positions[:, :column], cache)
            for index in range(self._first, self._last + 1):
                self._prefix[index] = cache.layers[index].keys, cache.layers[index].values
        return entering[:, column:]

    def run(self, entering: Tensor) -> Tensor:
        """The trunk's output [B, T', h] for what enters block `first` from the anchors on, [B, T', h]."""
        return self._run(entering, self._mask, self._positions, self._cache(entering))

    def read(self, hidden: Tensor) -> Tensor:
        """The trunk's output [M, h] at the M positions that the rows read, row after row."""
        return hidden[self._read_rows, self._read_columns]

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only: indices [B'], ascending."""
        place = torch.full((len(self._mask),), -1, device=rows.device)
        place[rows] = torch.arange(len(rows), device=rows.device)
        self._mask, self._positions = self._mask[rows], self._positions[rows]
        self._prefix = [None if pair is None else (pair[0][rows], pair[1][rows]) for pair in self._prefix]
        kept = place[self._read_rows] >= 0
        self._read_rows, self._read_columns = place[self._read_rows[kept]], self._read_columns[kept]

    def _run(self, entering: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache) -> Tensor:
        loaded = self._loaded
        with ExitStack() as stack:
            if entering.device.type == "cpu" and entering.dtype is not torch.float32:
                # The fused attention's backward pass is more than ten times slower there.
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            for index in range(loaded.layers):
                block = loaded.module(loaded.family.layer, index)
                forward = block.forward if self._first <= index <= self._last else self._passing_on
                if index == 0:  # what the model makes of its input is replaced, whether or not this block runs
                    forward = _given(forward, entering)
                stack.enter_context(replaced_forward(block, forward))
            output = loaded.trunk(
                inputs_embeds=entering.detach(),
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            )
        result: Tensor = output.last_hidden_state
        return result

    def _cache(self, entering: Tensor) -> DynamicCache:
        cache = DynamicCache()
        for prefix in self._prefix if self._column else ():  # an empty cache takes any shape
            layer = DynamicLayer()
            keys, values = prefix if prefix is not None else self._placeholder(entering)
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values
            cache.layers.append(layer)
        return cache

    def _placeholder(self, entering: Tensor) -> tuple[Tensor, Tensor]:
        """Stands for the keys of layers that do not run: only its length is ever read."""
        empty = entering.detach().new_empty((1, 1, 1, 1)).expand(entering.shape[0], 1, self._column, 1)
        return empty, empty

    def _passing_on(self, hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        return (hidden_states, None) if self._wraps_output else hidden_states


def _given(forward: Callable[..., Any], entering: Tensor) -> Callable[..., Any]:
    """A block's forward that takes `entering` for its input."""

    def given(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG001 - stands for the block's
        return forward(entering, *args, **kwargs)

    return given
