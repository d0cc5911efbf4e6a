"""Matrix products by oneDNN, where this machine multiplies float32 faster with it than by torch's own choice.

torch multiplies float32 on a CPU by MKL, which on some of them takes twice as long, whatever the number of rows; its
way to oneDNN for float32 is the one that its compiler takes.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

ROWS = 8
"""Of the products that are timed: about as many as are decoded together."""

WORTH = 1.2
"""How many times faster it must be."""

TIMED_BYTES = 2**28
"""Of weights that are multiplied with."""

LEAST_BYTES = 2**24
"""Smaller models stay in the caches, and have nothing to gain."""

REPEATS = 3


class _Linear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name is nn.Linear's
        return _by_onednn(input, self.weight, self.bias)


class _Conv1D(Conv1D):  # type: ignore[misc]
    def forward(self, x: Tensor) -> Tensor:
        return _by_onednn(x, self.weight.T, self.bias)


KINDS: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: _Linear, Conv1D: _Conv1D}
"""Modules that have another way, and the class that takes it."""


class FastProducts:
    """A model's linear modules; while `in_force` is entered they compute by oneDNN, from the same weights."""

    def __init__(self, model: nn.Module) -> None:
        self._modules: Sequence[tuple[Any, type[nn.Module]]] = [
            (module, type(module)) for module in model.modules() if type(module) in KINDS
        ]

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """For forward passes without gradients; views and twins that are made within compute the same way."""
        try:
            for module, kind in self._modules:
                module.__class__ = KINDS[kind]
            yield
        finally:
            for module, kind in self._modules:
                module.__class__ = kind


def fast_products(model: nn.Module) -> FastProducts | None:
    """The way by oneDNN, if it is there and this machine computes products with the model's weights faster by it."""
    weights = list(_some_weights(model))
    if sum(weight.nbytes for weight in weights) < LEAST_BYTES or not all(map(_possible, weights)):
        return None
    inputs = {size: torch.ones(ROWS, size) for size in {weight.shape[1] for weight in weights}}

    def seconds(multiply: Callable[[Tensor, Tensor], Tensor]) -> float:
        return _seconds(lambda: [multiply(inputs[weight.shape[1]], weight) for weight in weights])

    gain = seconds(nn.functional.linear) / seconds(lambda rows, weight: _by_onednn(rows, weight, None))
    return FastProducts(model) if gain >= WORTH else None


def _some_weights(model: nn.Module) -> Iterator[Tensor]:
    """[n, m] each, and so many that they are read from memory, as in a forward pass, and not from the caches."""
    total = 0
    for module in model.modules():
        if type(module) in KINDS and total < TIMED_BYTES:
            weight = module.get_parameter("weight").data
            total += weight.nbytes
            yield weight.T if isinstance(module, Conv1D) else weight


def _possible(weight: Tensor) -> bool:
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    there = there and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return there and weight.device.type == "cpu" and weight.dtype is torch.float32


@torch.no_grad()
def _seconds(compute: Callable[[], object]) -> float:
    """The least time of a few runs."""

    def timed() -> float:
        begin = time.perf_counter()
        compute()
        return time.perf_counter() - begin

    return min(timed() for _ in range(REPEATS))


def _by_onednn(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """inputs [..., m] times weight [n, m], plus bias [n]: [..., n]."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return product
