"""The uncentred second moment of keys, C = E[k k^T] (ROME, equation 2): the sums of many layers in one pass."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.editing.progress import Step, Steps
from worker.models.hooks import captured
from worker.models.loaded import LoadedModel

Read = Callable[[int], Iterator[Tensor | None]]
"""A text's batches of token ids [B, T] from the one of this number on; None where it is only getting ready."""


@dataclass
class Moment:
    """A layer's running sum of k k^T, [d, d] float64; of how many keys; from how many batches, whole ones."""

    total: Tensor
    count: int = 0
    batches: int = 0

    def add(self, keys: Tensor, most: int) -> None:
        """Add keys [N, d] of one batch, of which only so many count that there are no more than `most`."""
        keys = keys[: most - self.count].float()
        self.total += (keys.T @ keys).to(self.total.device)
        self.count += len(keys)
        self.batches += 1


def key_size(loaded: LoadedModel, layer: int) -> int:
    """d: how many numbers a key has."""
    rows, columns = loaded.mlp_out(layer).weight.shape
    return int(rows if loaded.family.in_out else columns)


def accumulate(loaded: LoadedModel, moments: Mapping[int, Moment], read: Read, tokens: int) -> Steps[None]:
    """Take the layers' sums on to `tokens` keys, in one pass over the text up to the highest layer.

    A layer that has had a batch already does not count it again. Each key is taken in float32, each batch's sum as
    well, the sum over batches in float64.
    """
    number = min(moment.batches for moment in moments.values())
    for ids in read(number):
        behind = [layer for layer, moment in moments.items() if moment.count < tokens and moment.batches <= number]
        if ids is not None:
            for layer, keys in _keys(loaded, ids, behind).items():
                moments[layer].add(keys, tokens)
            number += 1
        yield Step("statistics", min(moment.count for moment in moments.values()), tokens)


@torch.no_grad()
def _keys(loaded: LoadedModel, ids: Tensor, layers: list[int]) -> dict[int, Tensor]:
    """Each layer's keys [B * T, d]; nothing above the highest layer is computed."""
    if not layers:
        return {}
    with ExitStack() as stack:
        seen = {
            layer: stack.enter_context(captured(loaded.mlp_out(layer), stop=layer == max(layers)))
            for layer in sorted(layers)
        }
        stack.enter_context(loaded.reading())
        loaded.trunk(input_ids=ids, use_cache=False)
    return {layer: captures.input.flatten(0, -2) for layer, captures in seen.items()}
