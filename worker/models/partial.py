"""The part of a forward pass that is worth repeating: some of the blocks, for the positions from the anchors on."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from worker.models.batch import Batch, read_positions
from worker.models.blocks import Blocks, KeysValues, cache_of
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
        self._dtype = loaded.mlp_out(loaded.layers - 1).weight.dtype
        self._blocks = Blocks(loaded, first, last, wraps_output)
        self._column = batch.column
        self._mask = batch.attention_mask
        self._positions = batch.position_ids
        self._read_rows, columns = read_positions(rows, batch)
        self._read_columns = columns - batch.column
        self._prefix: list[KeysValues | None] = [None] * loaded.layers

    @torch.no_grad()
    def begin(self, entering: Tensor) -> Tensor:
        """Run the positions before the anchors; returns what enters from the anchors on, [B, T', h] of [B, T, h]."""
        column, positions = self._column, self._positions
        entering = entering.to(self._dtype)
        self._positions = positions[:, column:]
        if column:
            cache = DynamicCache()
            self._blocks.run(entering[:, :column], self._mask[:, :column], positions[:, :column], cache)
            for index in range(self._blocks.first, self._blocks.last + 1):
                self._prefix[index] = cache.layers[index].keys, cache.layers[index].values
        return entering[:, column:]

    def run(self, entering: Tensor) -> Tensor:
        """The trunk's output [B, T', h] for what enters block `first` from the anchors on, [B, T', h]."""
        cache = cache_of(self._prefix, entering, self._column)
        return self._blocks.run(entering, self._mask, self._positions, cache)

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
