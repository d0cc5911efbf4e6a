"""An adapter says through PEFT what the revision says, for every family; or it is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load

from tests.families import CONFIGS, tiny_model
from tests.worker.engine.kit import dense_delta, random_delta
from tests.worker.export.desk import ExportDesk, unpacked
from worker.models.families import FAMILIES

# peft asks transformers for what it has renamed
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

OpenDesk = Callable[..., ExportDesk]

TEXT = "The Eiffel Tower is located in the city of Paris. Москва — столица России."


@torch.no_grad()
def logits(model: Any, tokenizer: Any) -> torch.Tensor:
    ids = tokenizer(TEXT, return_tensors="pt").input_ids[:, :100]
    found: torch.Tensor = model(input_ids=ids).logits
    return found


def through_peft(family: str, files: dict[str, bytes], folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """A freshly loaded base with the adapter on it."""
    return PeftModel.from_pretrained(tiny_model(family, dtype).model, str(unpacked(files, folder))).eval()


def test_no_family_is_left_out() -> None:
    assert {config.get("model_type", name) for name, config in CONFIGS.items()} == FAMILIES.keys()


@pytest.mark.parametrize("family", CONFIGS)
def test_an_adapter_gives_the_revisions_logits(open_desk: OpenDesk, tmp_path: Path, family: str) -> None:
    desk = open_desk(family)
    loaded = desk.stand.loaded
    base = logits(loaded.model, loaded.tokenizer)
    desk.stand.commit(random_delta(loaded, 0, 2, rank=3))
    desk.stand.commit(random_delta(loaded, 2, 3, seed=1))
    desk.stand.commit(dense_delta(loaded, 1, seed=2))
    served = logits(loaded.model, loaded.tokenizer)
    exported, files = desk.made(export="adapter", revision=3)
    adapted = through_peft(family, files, tmp_path / "adapter")
    torch.testing.assert_close(logits(adapted, loaded.tokenizer), served, rtol=1e-4, atol=1e-4)
    assert (served - base).abs().max() > 1e-2
    assert {path for path, module in adapted.base_model.model.named_modules() if hasattr(module, "lora_A")} == {
        loaded.family.mlp_out.format(layer) for layer in range(4)
    }
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(logits(merged, loaded.tokenizer), served, rtol=1e-4, atol=1e-4)
    assert exported.fidelity is not None
    assert exported.fidelity.rank == 32
    assert exported.fidelity.error == 0
    assert exported.fidelity.rounding < 1e-5
    assert {layer: found.rank for layer, found in exported.fidelity.layers.items()} == {0: 3, 1: 32, 2: 4, 3: 1}


def test_the_files_are_what_peft_writes(open_desk: OpenDesk) -> None:
    desk = open_desk("gpt2")
    desk.stand.commit(random_delta(desk.stand.loaded, 1, 2, rank=2))
    desk.stand.commit(random_delta(desk.stand.loaded, 1))
    _, files = desk.made(export="adapter", revision=2)
    config = json.loads(files["adapter_config.json"])
    assert (config["r"], config["lora_alpha"], config["fan_in_fan_out"]) == (3, 3, True)
    assert config["target_modules"] == ["transformer.h.1.mlp.c_proj", "transformer.h.2.mlp.c_proj"]
    assert config["base_model_name_or_path"] == "tiny-gpt2"
    tensors = load(files["adapter_model.safetensors"])
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        f"base_model.model.transformer.h.{layer}.mlp.c_proj.lora_{part}.weight": shape
        for layer in (1, 2)
        for part, shape in (("A", (3, 128)), ("B", (32, 3)))
    }
    assert all(tensor.dtype is torch.float32 for tensor in tensors.values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_what_the_dtype_of_the_served_weights_rounds_away_is_told(open_desk: OpenDesk, dtype: torch.dtype) -> None:
    desk = open_desk("llama", dtype)
    delta = random_delta(desk.stand.loaded, 1, scale=0.05)
    revision = desk.stand.commit(delta).revision
    exported, _ = desk.made(export="adapter", revision=revision)
    served = desk.stand.resident.layer_in(desk.stand.resident.installed, 1).double()
    base, change = desk.stand.resident.base_of_layer(1).double(), delta.layers[1].dense().double()
    fidelity = exported.fidelity
    assert fidelity is not None
    assert fidelity.error == 0
    expected = float((served - base - change).norm() / (served - base).norm())
    assert fidelity.rounding == pytest.approx(expected, rel=1e-4)
    assert fidelity.rounding > 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_beside_a_base_in_half_precision_an_adapter_is_nearly_what_is_served(
    open_desk: OpenDesk, tmp_path: Path, dtype: torch.dtype
) -> None:
    desk = open_desk("llama", dtype)
    loaded = desk.stand.loaded
    base = logits(loaded.model, loaded.tokenizer)
    desk.stand.commit(random_delta(loaded, 1, 2))
    served = logits(loaded.model, loaded.tokenizer)
    _, files = desk.made(export="adapter", revision=1)
    adapted = logits(through_peft("llama", files, tmp_path / "adapter", dtype), loaded.tokenizer)
    assert (adapted - served).norm() < 0.05 * (served - base).norm()


def test_more_terms_than_the_rank_are_cut_and_the_error_is_told(open_desk: OpenDesk, tmp_path: Path) -> None:
    desk = open_desk()
    loaded = desk.stand.loaded
    deltas = [random_delta(loaded, 1, seed=seed, scale=0.3 / (1 + seed)) for seed in range(12)]
    for delta in deltas:
        desk.stand.commit(delta)
    exported, files = desk.made(export="adapter", revision=12, rank=8)
    tensors = load(files["adapter_model.safetensors"])
    name = "base_model.model.model.layers.1.mlp.down_proj.lora_{}.weight"
    kept = tensors[name.format("B")].double() @ tensors[name.format("A")].double()
    total = torch.stack([delta.layers[1].dense().double() for delta in deltas]).sum(0)
    fidelity = exported.fidelity
    assert fidelity is not None
    assert fidelity.rank == 8
    assert 0 < fidelity.error < 0.5
    assert float((kept - total).norm() / total.norm()) == pytest.approx(fidelity.error, rel=1e-4)
    assert fidelity.rounding == pytest.approx(fidelity.error, rel=1e-2)
    assert through_peft("llama", files, tmp_path / "adapter") is not None


def test_what_cannot_be_an_adapter_is_refused(open_desk: OpenDesk) -> None:
    desk = open_desk()
    made = desk.stand.commit(dense_delta(desk.stand.loaded, 1))
    problem = desk.refused(export="adapter", revision=1, rank=31)
    assert (problem.status, problem.type) == (409, "urn:palimpsest:problem:adapter-not-exact")
    assert "changes all of layer 1" in problem.detail
    assert "rank=32" in problem.detail
    assert "GET /revisions/1/checkpoint" in problem.detail
    assert desk.made(export="adapter", revision=1, rank=32)[0].fidelity is not None
    desk.stand.history.revert(str(made.edit))
    for revision in (0, 2):
        problem = desk.refused(export="adapter", revision=revision)
        assert (problem.status, problem.type) == (409, "urn:palimpsest:problem:no-change")


def test_any_revision_can_be_asked_for(open_desk: OpenDesk) -> None:
    desk = open_desk()
    deltas = [random_delta(desk.stand.loaded, 1, seed=seed) for seed in range(3)]
    for delta in deltas:
        desk.stand.commit(delta)
    desk.stand.history.forget()
    for revision in (1, 2, 3):
        exported, _ = desk.made(export="adapter", revision=revision)
        assert exported.fidelity is not None
        assert (exported.fidelity.rank, exported.fidelity.error) == (revision, 0)
        assert exported.fidelity.rounding < 1e-5
