"""Rows of different lengths as one padded batch, aligned at a column."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.models.loaded import LoadedModel
from worker.models.positions import Row


@dataclass(frozen=True)
class Batch:
    """B rows as tensors [B, T]; every row's anchor stands in the same `column`, its first token in `starts`."""

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    column: int
    starts: tuple[int, ...]

    def inputs(self) -> dict[str, Tensor]:
        """Keyword arguments of a forward pass."""
        return {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "position_ids": self.position_ids,
        }

    def at_anchors(self, through: Tensor) -> Tensor:
        """The anchors' part, [B, n], of what went through a module: [B, T, n], or [B T, n] as opt's MLP has it."""
        return through.reshape(*self.input_ids.shape, -1)[:, self.column]


def align(loaded: LoadedModel, rows: Sequence[Row]) -> Batch:
    """Pad rows left and right so that their anchors meet in one column."""
    column = max(row.anchor for row in rows)
    width = column + max(len(row.ids) - row.anchor for row in rows)
    ids = torch.full((len(rows), width), loaded.pad_token_id, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    positions = torch.zeros((len(rows), width), dtype=torch.long)
    starts = tuple(column - row.anchor for row in rows)
    for index, (row, start) in enumerate(zip(rows, starts, strict=True)):
        span = slice(start, start + len(row.ids))
        ids[index, span] = torch.tensor(row.ids)
        mask[index, span] = 1
        positions[index, span] = torch.arange(len(row.ids))
    device = loaded.device
    return Batch(ids.to(device), mask.to(device), positions.to(device), column, starts)


def read_positions(rows: Sequence[Row], batch: Batch) -> tuple[Tensor, Tensor]:
    """Row and column indices, one pair for each token to be predicted, row after row."""
    pairs = [
        (index, start + at)
        for index, (row, start) in enumerate(zip(rows, batch.starts, strict=True))
        for at in row.reads
    ]
    indices = torch.tensor(pairs, dtype=torch.long, device=batch.input_ids.device).reshape(-1, 2)
    return indices[:, 0], indices[:, 1]
