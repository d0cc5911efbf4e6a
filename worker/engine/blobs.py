"""Deltas as content-addressed safetensors files: written once, whole, and never changed."""

import hashlib
import os
from pathlib import Path

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from worker.editing.delta import LowRank, WeightDelta
from worker.errors import CorruptStateError


class BlobStore:
    """The blobs of one model, in one folder."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def put(self, delta: WeightDelta) -> str:
        """Write a delta durably; returns its sha256, under which it can be read again."""
        tensors = {}
        for layer, change in delta.layers.items():
            tensors[f"{layer}.residuals"] = change.residuals.contiguous()
            tensors[f"{layer}.solver"] = change.solver.contiguous()
        content = save_tensors(tensors)
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
        tensors = load_tensors(content)
        layers = sorted({int(name.split(".")[0]) for name in tensors})
        return WeightDelta(
            {layer: LowRank(tensors[f"{layer}.residuals"], tensors[f"{layer}.solver"]) for layer in layers}
        )

    def _path(self, digest: str) -> Path:
        return self._directory / f"{digest}.safetensors"

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
