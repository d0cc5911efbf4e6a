"""Keys and values of rows of different lengths, all ending in the same column: rows join, and leave."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class PaddedCache:
    """What a forward pass keeps of B rows padded on the left to W columns.

    cache: transformers', of whole layers: a sliding window is the mask's business, so that columns may be added on the
    left. starts: the column in which each row's first token stands.
    """

    def __init__(self, starts: Sequence[int]) -> None:
        self.cache = DynamicCache()
        self.starts = list(starts)

    @property
    def width(self) -> int:
        """W: the columns that are filled."""
        return int(self.cache.get_seq_length())

    @property
    def nbytes(self) -> int:
        """Bytes of all keys and values."""
        return sum(part.nbytes for layer in self._layers for part in (layer.keys, layer.values))

    def mask(self, new: int, device: torch.device) -> Tensor:
        """[B, W + new]: 1 where a row has a token, `new` columns of every row being on their way."""
        columns = torch.arange(self.width + new, device=device)
        return (columns >= torch.tensor(self.starts, device=device)[:, None]).long()

    def positions(self, new: int, device: torch.device) -> Tensor:
        """[B, new]: the index of each new token in its row; 0 for padding."""
        columns = torch.arange(self.width, self.width + new, device=device)
        return (columns - torch.tensor(self.starts, device=device)[:, None]).clamp(min=0)

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order, a row perhaps more than once, and no column that none of them needs."""
        self.starts = [self.starts[row] for row in rows]
        spare = min(self.starts, default=0)
        self.starts = [start - spare for start in self.starts]
        for layer in self._layers:
            index = torch.tensor(rows, dtype=torch.long, device=layer.keys.device)
            layer.keys, layer.values = (part[index, :, spare:] for part in (layer.keys, layer.values))

    def join(self, others: "PaddedCache") -> None:
        """Add the rows of another, after those there are; both are padded to the wider one's columns."""
        width = max(self.width, others.width)
        pads = width - self.width, width - others.width
        self.starts = [start + pads[0] for start in self.starts] + [start + pads[1] for start in others.starts]
        for mine, theirs in zip(self._layers, others._layers, strict=True):
            mine.keys = torch.cat([_padded(mine.keys, pads[0]), _padded(theirs.keys, pads[1])])
            mine.values = torch.cat([_padded(mine.values, pads[0]), _padded(theirs.values, pads[1])])

    def blank_padding(self) -> None:
        """Put zeros where rows have no tokens: what was computed there may not be finite, and 0 x NaN is NaN."""
        if not any(self.starts):
            return
        for layer in self._layers:
            empty = self.mask(0, layer.keys.device)[:, None, :, None] == 0
            layer.keys, layer.values = (part.masked_fill(empty, 0) for part in (layer.keys, layer.values))

    @property
    def _layers(self) -> list[DynamicLayer]:
        layers: list[DynamicLayer] = self.cache.layers
        return layers


def _padded(part: Tensor, columns: int) -> Tensor:
    """[B, G, W, D] with zero columns before the others."""
    return torch.nn.functional.pad(part, (0, 0, columns, 0)) if columns else part
