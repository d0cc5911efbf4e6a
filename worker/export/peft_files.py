"""An adapter's two files, as PEFT saves and loads them."""

import json
from collections.abc import Mapping
from typing import Any

from safetensors.torch import save

from worker.export.factors import Factors
from worker.models.loaded import LoadedModel

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

BASE = "base_model_name_or_path"
"""The only field of the config that differs between two installations."""


def adapter_files(loaded: LoadedModel, layers: Mapping[int, Factors]) -> dict[str, bytes]:
    """The files of an adapter of these layers, all of one rank: what is of a smaller one is padded with zeros."""
    rank = max(factors.rank for factors in layers.values())
    modules = {layer: loaded.family.mlp_out.format(layer) for layer in sorted(layers)}
    tensors = {}
    for layer, module in modules.items():
        factors = layers[layer].padded(rank)
        tensors[f"base_model.model.{module}.lora_A.weight"] = factors.down.contiguous()
        tensors[f"base_model.model.{module}.lora_B.weight"] = factors.up.contiguous()
    config = adapter_config(loaded, rank, list(modules.values()))
    return {
        CONFIG: json.dumps(config, indent=2, sort_keys=True).encode(),
        WEIGHTS: save(tensors, metadata={"format": "pt"}),
    }


def adapter_config(loaded: LoadedModel, rank: int, modules: list[str]) -> dict[str, Any]:
    """The config, whole. lora_alpha = r, so that the factors' product is added as it is."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        BASE: loaded.name,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": modules,
        "fan_in_fan_out": loaded.family.in_out,
        "init_lora_weights": True,
        "use_rslora": False,
        "use_dora": False,
        "rank_pattern": {},
        "alpha_pattern": {},
        "modules_to_save": None,
        "layers_to_transform": None,
        "layers_pattern": None,
    }
