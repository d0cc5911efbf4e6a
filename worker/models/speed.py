"""Which dtype this machine multiplies fastest."""

import time

import torch

from worker.models.loaded import LoadedModel

ROWS = 512
"""Of the matrices multiplied: about as many as a step of a value optimisation has."""

WORTH = 1.5
"""How many times faster bfloat16 must be to be worth its coarser numbers."""


def compute_dtype(loaded: LoadedModel, wanted: str) -> torch.dtype | None:
    """The dtype for value optimisations; None is the model's own.

    wanted: "model", the name of a dtype, or "auto": bfloat16 for a float32 model where the device multiplies it WORTH
    times as fast, measured with the model's own widths; otherwise the model's.
    """
    if wanted == "model" or (wanted == "auto" and loaded.dtype is not torch.float32):
        return None
    if wanted != "auto":
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype
    gain = _seconds(loaded, torch.float32) / _seconds(loaded, torch.bfloat16)
    return torch.bfloat16 if gain >= WORTH else None


def _seconds(loaded: LoadedModel, dtype: torch.dtype) -> float:
    """The least time of a product of the edited module's shape."""
    weight = loaded.mlp_out(0).weight.to(dtype)
    inputs = torch.ones(ROWS, weight.shape[0], dtype=dtype, device=weight.device)
    return min(_timed(inputs, weight) for _ in range(5))


def _timed(inputs: torch.Tensor, weight: torch.Tensor) -> float:
    begin = time.perf_counter()
    float((inputs @ weight)[0, 0])  # waits for a GPU
    return time.perf_counter() - begin
