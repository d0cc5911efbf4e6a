"""What published evaluation code was given, and what it found: the records, the edited weights, the numbers."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.families import tiny_model
from worker.models.loaded import LoadedModel
from worker.models.loading import DEFAULT_MODEL, load

FOLDER = Path(__file__).parent
INPUTS = FOLDER / "scored.json"
REAL = "smollm2-135m"
SEED, LAYER = 20241, 1
SCALE = {"gpt2": 0.3, "llama": 0.3, REAL: 0.15}
"""Of the change: what the model says partly stays."""


def inputs() -> dict[str, Any]:
    """Records in their files' own forms, and texts."""
    found: dict[str, Any] = json.loads(INPUTS.read_text(encoding="utf-8"))
    return found


def numbers(name: str) -> dict[str, Any]:
    """What the published code found on a model."""
    found: dict[str, Any] = json.loads((FOLDER / f"scored_{name}.json").read_text(encoding="utf-8"))
    return found


def model_of(family: str) -> LoadedModel:
    """The tiny model of that family, in float64."""
    return tiny_model(family, torch.float64)


def real_model(data_dir: Path) -> LoadedModel:
    """The real small one, in float64."""
    loaded = load(DEFAULT_MODEL, "float32", "cpu", data_dir)
    loaded.model.double()
    return loaded


def edited_weight(loaded: LoadedModel, scale: float) -> torch.Tensor:
    """The weight of one MLP output projection, as the model holds it, with a seeded change of rank one."""
    weight = loaded.mlp_out(LAYER).weight
    chance = np.random.default_rng(SEED)
    rows, columns = reversed(weight.shape) if loaded.family.in_out else weight.shape
    change = torch.from_numpy(scale * np.outer(chance.standard_normal(rows), chance.standard_normal(columns)))
    edited: torch.Tensor = weight.detach() + (change.T if loaded.family.in_out else change)
    return edited


@contextmanager
def edited(loaded: LoadedModel, scale: float) -> Iterator[None]:
    """The model with that weight in place."""
    weight = loaded.mlp_out(LAYER).weight
    before, after = weight.detach().clone(), edited_weight(loaded, scale)
    weight.data.copy_(after)
    try:
        yield
    finally:
        weight.data.copy_(before)
