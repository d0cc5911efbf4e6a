"""Some of a model's blocks alone: given what enters the first of them, and the keys and values of earlier positions."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from worker.models.hooks import replaced_forward
from worker.models.loaded import LoadedModel

KeysValues = tuple[Tensor, Tensor]
"""Of one layer, each [B, G, S, D]."""


@dataclass(frozen=True)
class Blocks:
    """Blocks `first` to `last` of a model; the others pass on what they are given.

    wraps_output: whether a block's output is the first of a tuple.
    """

    loaded: LoadedModel
    first: int
    last: int
    wraps_output: bool

    def run(self, entering: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache) -> Tensor:
        """The trunk's output [B, T, h], normed, for what enters block `first`, [B, T, h].

        mask: [B, S + T] with the S positions that `cache` has; positions: [B, T].
        """
        loaded = self.loaded
        with ExitStack() as stack:
            if entering.device.type == "cpu" and entering.dtype is not torch.float32:
                # The fused attention's backward pass is more than ten times slower there.
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            for index in range(loaded.layers):
                block = loaded.module(loaded.family.layer, index)
                forward = block.forward if self.first <= index <= self.last else self._passing_on
                if index == 0:  # what the model makes of its input is replaced, whether or not this block runs
                    forward = _given(forward, entering)
                stack.enter_context(replaced_forward(block, forward))
            output = loaded.trunk(
                inputs_embeds=entering.detach(),
                attention_mask=mask,
                position_ids=positions,
                cache=cache,
                use_cache=True,
            )
        result: Tensor = output.last_hidden_state
        return result

    def _passing_on(self, hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        return (hidden_states, None) if self.wraps_output else hidden_states


def cache_of(layers: Sequence[KeysValues | None], entering: Tensor, length: int) -> DynamicCache:
    """A cache with the keys and values of `length` earlier positions; None for layers that do not run."""
    cache = DynamicCache()
    for known in layers if length else ():  # an empty cache takes any shape
        layer = DynamicLayer()
        keys, values = known if known is not None else _placeholder(entering, length)
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        cache.layers.append(layer)
    return cache


def _placeholder(entering: Tensor, length: int) -> KeysValues:
    """Stands for the keys of layers that do not run: only its length is ever read."""
    empty = entering.detach().new_empty((1, 1, 1, 1)).expand(entering.shape[0], 1, length, 1)
    return empty, empty


def _given(forward: Callable[..., Any], entering: Tensor) -> Callable[..., Any]:
    """A block's forward that takes `entering` for its input."""

    def given(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG001 - stands for the block's
        return forward(entering, *args, **kwargs)

    return given
