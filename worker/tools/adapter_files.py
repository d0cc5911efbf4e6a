"""An adapter on disk, as `palimpsest export` has made it: read, checked, and as a delta."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, float32

from service.contracts.exports import ExportKind, ExportManifest
from service.unpacking import MANIFEST, UnpackingError, unpack
from worker.editing.delta import LowRank, WeightDelta
from worker.engine.resident import Resident
from worker.errors import WorkerError
from worker.export.peft_files import CONFIG, WEIGHTS

PIECE_BYTES = 2**20


def read_adapter(path: Path) -> tuple[ExportManifest, Mapping[str, bytes]]:
    """What `palimpsest export --adapter` has made, in a folder or a tar, every checksum right; raises WorkerError."""
    try:
        if path.is_dir():
            return _read_folder(path)
        with tempfile.TemporaryDirectory() as place, path.open("rb") as file:
            folder = Path(place) / "adapter"
            unpack(iter(lambda: file.read(PIECE_BYTES), b""), folder)
            return _read_folder(folder)
    except UnpackingError as error:
        raise WorkerError(f"{path}: {error}") from error
    except OSError as error:
        raise WorkerError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValidationError as error:
        raise WorkerError(f"{path}: {MANIFEST} is damaged, or of another version of Palimpsest.") from error


def _read_folder(folder: Path) -> tuple[ExportManifest, Mapping[str, bytes]]:
    manifest = ExportManifest.model_validate_json((folder / MANIFEST).read_bytes())
    if manifest.kind is not ExportKind.ADAPTER or manifest.files.keys() != {CONFIG, WEIGHTS}:
        raise WorkerError(f"{folder} is no adapter that palimpsest export has made; only those can be imported.")
    files = {name: (folder / name).read_bytes() for name in manifest.files}
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != manifest.files[name].sha256:
            raise WorkerError(f"{folder / name} is not what {MANIFEST} says. Export the adapter again.")
    return manifest, files


def delta_of(files: Mapping[str, bytes], resident: Resident) -> WeightDelta:
    """The factors as a delta; raises WorkerError unless they are of layers that edits change, and fit there."""
    try:
        config, tensors = json.loads(files[CONFIG]), load_tensors(files[WEIGHTS])
        rank = int(config["r"])
        plain = (config["lora_alpha"], config["use_rslora"], config["use_dora"]) == (rank, False, False)
    except (SafetensorError, LookupError, TypeError, ValueError) as error:
        raise WorkerError(f"The adapter's files cannot be read: {error}") from error
    found: dict[int, LowRank] = {}
    for layer in range(resident.loaded.layers):
        name = f"base_model.model.{resident.loaded.family.mlp_out.format(layer)}.lora_{{}}.weight"
        down, up = tensors.pop(name.format("A"), None), tensors.pop(name.format("B"), None)
        if down is not None and up is not None:
            found[layer] = _factors(layer, down, up, rank, resident)
    if tensors or not found or not plain:
        other = f", such as {next(iter(tensors))}" if tensors else ""
        raise WorkerError(f"The adapter changes what edits do not{other}; only adapters of edits can be imported.")
    return WeightDelta(dict(found))


def _factors(layer: int, down: Tensor, up: Tensor, rank: int, resident: Resident) -> LowRank:
    height, width = resident.base_of_layer(layer).shape
    if (down.shape, up.shape) != ((rank, width), (height, rank)) or {down.dtype, up.dtype} != {float32}:
        raise WorkerError(f"The adapter's factors of layer {layer} do not have the shapes or the dtype that they must.")
    there = (down != 0).any(1) & (up != 0).any(0)
    return LowRank(up[:, there].contiguous(), down[there].T.contiguous())
