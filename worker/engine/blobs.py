"""Deltas as content-addressed safetensors files: written once, whole, and never changed."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from worker.editing.delta import Change, Dense, LowRank, WeightDelta
from worker.engine.folder import Folder
from worker.errors import CorruptStateError, MissingBlobError

SUFFIX = ".safetensors"


class BlobStore:
    """The blobs of one model, in one folder: a path, or a URL that fsspec knows."""

    def __init__(self, place: str | Path | Folder) -> None:
        self.folder = place if isinstance(place, Folder) else Folder.at(place)

    def put(self, delta: WeightDelta) -> str:
        """Write a delta durably; returns its sha256, under which it can be read again. Raises StorageError."""
        content = save_tensors(_tensors_of(delta))
        digest = hashlib.sha256(content).hexdigest()
        self.folder.write(digest + SUFFIX, content)
        return digest

    def get(self, digest: str) -> WeightDelta:
        """Read a delta; raises CorruptStateError naming the blob if it is missing or not what was written."""
        return _delta_of(load_tensors(self.content(digest)))

    def content(self, digest: str) -> bytes:
        """A blob's file, checked as `get` checks it."""
        content = self.folder.read(digest + SUFFIX)
        if content is None:
            raise MissingBlobError(f"Blob {digest} is missing from {self.folder.name}. Restore it from a backup.")
        if hashlib.sha256(content).hexdigest() != digest:
            raise CorruptStateError(
                f"Blob {digest} in {self.folder.name} is damaged: its checksum differs. Restore it from a backup."
            )
        return content

    def add(self, digest: str, content: bytes) -> None:
        """Write a blob that was made elsewhere; raises ValueError if it is not what its name says, or no delta."""
        decode_blob(digest, content)
        self.folder.write(digest + SUFFIX, content)

    def sizes(self) -> Mapping[str, int]:
        """The bytes of every blob by its digest, whether anything names it or not."""
        return {name.removesuffix(SUFFIX): size for name, size in self.folder.sizes().items() if name.endswith(SUFFIX)}


def decode_blob(digest: str, content: bytes) -> WeightDelta:
    """The delta in a blob's file; raises ValueError if there is none."""
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"blob {digest} has another checksum")
    try:
        return _delta_of(load_tensors(content))
    except (SafetensorError, LookupError, ValueError) as error:
        raise ValueError(f"blob {digest} holds no delta: {error}") from error


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
