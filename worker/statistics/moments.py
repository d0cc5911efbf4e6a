"""The uncentred second moment of keys, C = E[k k^T] (ROME, equation 2), kept in the published .npz format."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worker.editing.progress import Step, Steps
from worker.models.hooks import captured
from worker.models.loaded import LoadedModel


def second_moment(loaded: LoadedModel, layer: int, batches: Iterable[Tensor], tokens: int) -> Steps[tuple[Tensor, int]]:
    """The sum of k k^T [d, d] float32 over the keys of a layer, and how many there were."""
    total: Tensor | None = None
    count = 0
    for ids in batches:
        with torch.no_grad(), captured(loaded.mlp_out(layer), stop=True) as seen:
            loaded.trunk(input_ids=ids)
        keys = seen.input.reshape(-1, seen.input.shape[-1])[: tokens - count].float()
        product = (keys.T @ keys).double()
        total = product if total is None else total + product
        count += len(keys)
        yield Step("statistics", min(count, tokens), tokens)
    if total is None:
        raise ValueError("no text to take statistics over")
    return total.float().cpu(), count


def cache_path(directory: Path, *parts: object) -> Path:
    """Where the statistics that depend on `parts` lie."""
    key = hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:32]
    return directory / f"{key}.npz"


def save(path: Path, total: Tensor, count: int) -> None:
    """Write sum and count under the published names, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with partial.open("wb") as file:
        published: dict[str, Any] = {
            "mom2.constructor": np.array("SecondMoment()"),
            "mom2.count": np.array(count),
            "mom2.mom2": total.numpy(),
            "sample_size": np.array(count),
        }
        np.savez(file, **published)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load(path: Path) -> Tensor:
    """C [d, d] float32 from a file in the published format."""
    with np.load(path, allow_pickle=False) as stored:
        return torch.from_numpy(stored["mom2.mom2"]).float() / int(stored["mom2.count"])
