"""How much a batch may hold: free memory, and what a token of a forward pass with gradients keeps of it."""

import ctypes
from collections.abc import Iterator

import psutil
import torch

from worker.models.loaded import LoadedModel

SHARE = 0.5
"""Of the free memory, what a batch may take."""

MOST_TOKENS = {"cpu": 1024, "cuda": 65_536}
"""More gain nothing: the matrix products are as fast as they get, and a step only takes longer."""

LOGITS_AT_ONCE = 2**24
"""Elements of a matrix of logits; what is read at more positions is computed piece by piece."""

LARGE = 2**20
"""Bytes from which memory is mapped by itself. The page faults cost a forward pass 4 % at most, and an edit nothing
that could be measured."""

_M_MMAP_THRESHOLD = -3  # of mallopt(3)

STREAMS, WIDE = 20, 8
"""Tensors of the hidden size, and of the MLP's width, that a block keeps for its backward pass (an upper bound)."""


def free_bytes(device: torch.device) -> int:
    """Memory that can still be had on a device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    return int(psutil.virtual_memory().available)


def memory(device: torch.device) -> dict[str, float]:
    """Bytes of a device's memory: free, and on a GPU what tensors take (allocated) and what is held (reserved)."""
    if device.type != "cuda":
        return {"free": float(free_bytes(device))}
    held = {"allocated": torch.cuda.memory_allocated(device), "reserved": torch.cuda.memory_reserved(device)}
    return {"free": float(torch.cuda.mem_get_info(device)[0]), **{name: float(size) for name, size in held.items()}}


def map_large() -> None:
    """Have the C library return LARGE tensors to the system as soon as they are freed, where it can.

    By itself glibc takes sizes that it has once seen freed, up to 32 MiB, from its heaps from then on. There, what
    stays leaves gaps between what passes, and a process that edits and answers grows for hours.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE)


def give_back() -> None:
    """Return free memory to the system, where the C library can.

    What stays of an edit is small and lies among passing tensors; they leave gaps that nothing else fits into, until
    somebody asks for them to be returned.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def token_budget(loaded: LoadedModel, layers: int) -> int:
    """Tokens that a forward pass with gradients through `layers` blocks may hold at once; at least 1."""
    hidden_size = int(loaded.config.hidden_size)
    width = int(loaded.mlp_out(0).weight.numel()) // hidden_size
    a_token = layers * (STREAMS * hidden_size + WIDE * width) * 4
    most = MOST_TOKENS.get(loaded.device.type, MOST_TOKENS["cpu"])
    return max(1, min(most, int(SHARE * free_bytes(loaded.device)) // max(1, a_token)))


def logit_pieces(loaded: LoadedModel, positions: int) -> Iterator[slice]:
    """Slices of so few positions that the logits of each can be held at once."""
    size = max(1, LOGITS_AT_ONCE // int(loaded.config.vocab_size))
    return (slice(begin, min(begin + size, positions)) for begin in range(0, positions, size))
