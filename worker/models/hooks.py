"""Temporary changes to a module's forward, each a context manager that leaves everything as it was found."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class StopForward(Exception):  # noqa: N818 - not an error: it ends a forward pass whose rest is not needed
    """Raised to end a forward pass once everything wanted has been captured."""


class Captured:
    """What went through a module at its last call: `input` and a copy of `output`, as first tensors.

    A copy, since what follows may change the output in place: falcon adds the attention's to the MLP's.
    """

    input: Tensor
    output: Tensor
    wraps_output: bool


@contextmanager
def captured(module: nn.Module, *, stop: bool = False) -> Iterator[Captured]:
    """Capture a module's input and output; with `stop`, end the forward pass there."""
    seen = Captured()

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        seen.input = args[0] if args else next(iter(kwargs.values()))
        seen.wraps_output = isinstance(output, tuple)
        seen.output = (output[0] if isinstance(output, tuple) else output).clone()
        if stop:
            raise StopForward

    handle = module.register_forward_hook(hook, with_kwargs=True)
    try:
        yield seen
    except StopForward:
        pass
    finally:
        handle.remove()


@contextmanager
def added(module: nn.Module, deltas: Tensor) -> Iterator[None]:
    """Add `deltas` [B, h] to a module's output [B, T, h] (or [B T, h], as opt's MLP has it) at the first position."""

    def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        rows = output.reshape(len(deltas), -1, output.shape[-1])
        moved = rows[:, :1] + deltas[:, None].to(output.dtype)
        return torch.cat([moved, rows[:, 1:]], dim=1).reshape(output.shape)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def placed(module: nn.Module, value: Tensor, rows: Tensor, batch: int) -> Iterator[None]:
    """Put `value` [h] in place of a module's output at the first position of some rows of a batch.

    The output is [B, T, h], or [B T, h] as opt's MLP has it, perhaps as the first of a tuple.
    """

    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        given = output[0] if isinstance(output, tuple) else output
        moved = given.clone().reshape(batch, -1, given.shape[-1])
        moved[rows.to(given.device), 0] = value.to(given)
        moved = moved.reshape(given.shape)
        return (moved, *output[1:]) if isinstance(output, tuple) else moved

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a module compute something else."""
    before = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = before
