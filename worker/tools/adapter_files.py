"""An adapter on disk, as `palimpsest export` has made it: read, checked, and as a delta."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, float32

from service.contracts.exports import ExportKind, ExportManifest, ManifestFile
from service.unpacking import MANIFEST, MOST_MANIFEST_BYTES, UnpackingError, unpack
from worker.editing.delta import LowRank, WeightDelta
from worker.engine.resident import Resident
from worker.errors import WorkerError
from worker.export.peft_files import BASE, CONFIG, WEIGHTS, adapter_config

PIECE_BYTES = 2**20

MOST_BYTES = 2**33
"""Of both files, which are held in memory. Rank 256 in all 80 layers of a model of 70B parameters is 3 GB."""

TOLD_NAMES = 5
"""Of what may be very many, in an error."""


def read_adapter(path: Path) -> tuple[ExportManifest, Mapping[str, bytes]]:
    """What `palimpsest export --adapter` has made, in a folder or a tar, every checksum right; raises WorkerError."""
    try:
        if path.is_dir():
            return _read_folder(path)
        with tempfile.TemporaryDirectory() as place, path.open("rb") as file:
            folder = Path(place) / "adapter"
            unpack(iter(lambda: file.read(PIECE_BYTES), b""), folder, {CONFIG, WEIGHTS}, MOST_BYTES)
            return _read_folder(folder)
    except UnpackingError as error:
        raise WorkerError(f"{path}: {error}") from error
    except OSError as error:
        raise WorkerError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValidationError as error:
        raise WorkerError(f"{path}: {MANIFEST} is damaged, or of another version of Palimpsest.") from error


def _read_folder(folder: Path) -> tuple[ExportManifest, Mapping[str, bytes]]:
    if (folder / MANIFEST).stat().st_size > MOST_MANIFEST_BYTES:
        raise WorkerError(f"{folder / MANIFEST} is too large to be one.")
    manifest = ExportManifest.model_validate_json((folder / MANIFEST).read_bytes())
    if manifest.kind is not ExportKind.ADAPTER or manifest.files.keys() != {CONFIG, WEIGHTS}:
        raise WorkerError(f"{folder} is no adapter that palimpsest export has made; only those can be imported.")
    if sum(told.bytes for told in manifest.files.values()) > MOST_BYTES:
        raise WorkerError(f"{folder}: its files are of more than {MOST_BYTES} bytes, which is too much for an adapter.")
    return manifest, {name: _read_file(folder / name, told) for name, told in manifest.files.items()}


def _read_file(path: Path, told: ManifestFile) -> bytes:
    """Its length is looked at first, so that no more is read than was told."""
    content = path.read_bytes() if path.stat().st_size == told.bytes else None
    if content is None or hashlib.sha256(content).hexdigest() != told.sha256:
        raise WorkerError(f"{path} is not what {MANIFEST} says. Export the adapter again.")
    return content


def delta_of(files: Mapping[str, bytes], resident: Resident) -> WeightDelta:
    """The factors as a delta; raises WorkerError unless they are of layers that edits change, and fit there."""
    try:
        config, tensors = json.loads(files[CONFIG]), load_tensors(files[WEIGHTS])
        rank = config["r"]
    except (SafetensorError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise WorkerError(f"The adapter's files cannot be read: {error}") from error
    found: dict[int, LowRank] = {}
    for layer in range(resident.loaded.layers):
        name = f"base_model.model.{resident.loaded.family.mlp_out.format(layer)}.lora_{{}}.weight"
        down, up = tensors.pop(name.format("A"), None), tensors.pop(name.format("B"), None)
        if down is not None and up is not None:
            found[layer] = _factors(layer, down, up, rank, resident)
    if tensors or not found:
        other = f", such as {next(iter(tensors))}" if tensors else ""
        raise WorkerError(f"The adapter changes what edits do not{other}; only adapters of edits can be imported.")
    modules = [resident.loaded.family.mlp_out.format(layer) for layer in found]
    _require_own(config, adapter_config(resident.loaded, rank, modules))
    changed = {layer: factors for layer, factors in found.items() if factors.residuals.shape[1]}
    if not changed:
        raise WorkerError("The adapter's factors are zero everywhere, so it changes nothing.")
    return WeightDelta(dict(changed))


def _require_own(config: dict[str, Any], own: dict[str, Any]) -> None:
    """Raise WorkerError unless all is as an export of these layers has it: PEFT would compute something else by most of
    the fields, and what a field of another version means is not known here. The base is compared by its checksum.
    """
    names = config.keys() | own.keys()
    other = sorted(name for name in names - {BASE} if config.get(name, ...) != own.get(name, ...))
    if other:
        shown = ", ".join(repr(name[:100]) for name in other[:TOLD_NAMES])
        raise WorkerError(
            f"{CONFIG} differs from what palimpsest export writes of these layers, in {shown}. By that the adapter may "
            "change what edits do not, or comes from another version; only adapters of edits can be imported."
        )


def _factors(layer: int, down: Tensor, up: Tensor, rank: int, resident: Resident) -> LowRank:
    height, width = resident.base_of_layer(layer).shape
    if (down.shape, up.shape) != ((rank, width), (height, rank)) or {down.dtype, up.dtype} != {float32}:
        raise WorkerError(f"The adapter's factors of layer {layer} do not have the shapes or the dtype that they must.")
    there = (down != 0).any(1) & (up != 0).any(0)
    return LowRank(up[:, there].contiguous(), down[there].T.contiguous())
