"""Deltas as content-addressed safetensors files: written once, whole, and never changed."""

import hashlib
import os
from pathlib import Path

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from worker.editing.delta import Change, Dense, LowRank, WeightDelta
from worker.errors import CorruptStateError


class BlobStore:
    """The blobs of one model, in one folder."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def put(self, delta: WeightDelta) -> str:
        """Write a delta durably; returns its sha256, under which it can be read again."""
        content = save_tensors(_tensors_of(delta))
        digest = hashlib.sha256(content).hexdigest()
        partial = self._directory / f"{digest}.{os.getpid()}.partial"
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path(digest))
        self._sync_directory()
        return digest

    def get(self, digest: str) -> WeightDelta:
        """Read a delta; raises CorruptStateError naming the blob if it is missing or not what was written."""
        try:
            content = self._path(digest).read_bytes()
        except OSError as error:
            raise CorruptStateError(f"Blob {digest} cannot be read: {error}. Restore it from a backup.") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise CorruptStateError(f"Blob {self._path(digest)} is damaged: its checksum differs. Restore it.")
        return _delta_of(load_tensors(content))

    def _path(self, digest: str) -> Path:
        return self._directory / f"{digest}.safetensors"

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _tensors_of(delta: WeightDelta) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for layer, change in delta.layers.items():
        if isinstance(change, Dense):
            tensors[f"{layer}.change"] = change.change
        else:
            tensors[f"{layer}.residuals"] = change.residuals
            tensors[f"{layer}.solver"] = change.solver
    tensors |= {f"{layer}.keys": keys for layer, keys in delta.keys.items()}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _delta_of(tensors: dict[str, Tensor]) -> WeightDelta:
    layers: dict[int, Change] = {}
    keys: dict[int, Tensor] = {}
    for name in sorted(tensors):
        layer, part = int(name.split(".")[0]), name.split(".")[1]
        match part:
            case "change":
                layers[layer] = Dense(tensors[name])
            case "residuals":
                layers[layer] = LowRank(tensors[name], tensors[f"{layer}.solver"])
            case "keys":
                keys[layer] = tensors[name]
    return WeightDelta(dict(sorted(layers.items())), keys)
