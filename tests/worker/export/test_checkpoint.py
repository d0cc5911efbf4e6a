"""A checkpoint loads as the revision's weights, to the last bit, for every family, whatever moves meanwhile."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from tests.families import CONFIGS, tiny_model
from tests.worker.engine.kit import Stand, dense_delta, random_delta
from tests.worker.export.desk import ExportDesk, unpacked
from worker.engine.resident import Resident
from worker.export.companions import companions
from worker.models.loaded import LoadedModel

OpenDesk = Callable[..., ExportDesk]


def loaded_from(folder: Path, like: LoadedModel) -> LoadedModel:
    """What transformers loads from a folder by itself; every tensor must come from there."""
    model, found = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", output_loading_info=True, local_files_only=True
    )
    assert not any(found[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys")), found
    return LoadedModel(like.name, model, AutoTokenizer.from_pretrained(folder), like.family)


def varied(stand: Stand) -> None:
    stand.commit(random_delta(stand.loaded, 0, 2, rank=3))
    stand.commit(dense_delta(stand.loaded, 1, seed=2))


@pytest.mark.parametrize("family", CONFIGS)
def test_a_checkpoint_is_the_revision(open_desk: OpenDesk, tmp_path: Path, family: str) -> None:
    desk = open_desk(family)
    varied(desk.stand)
    loaded = loaded_from(unpacked(desk.checkpoint(2), tmp_path / "model"), desk.stand.loaded)
    assert Resident(loaded).base_checksum == desk.stand.ledger.entries()[2].checksum
    assert loaded.config.architectures == [type(desk.stand.loaded.model).__name__]
    text = "The Eiffel Tower, Москва"
    assert loaded.tokenizer(text).input_ids == desk.stand.loaded.tokenizer(text).input_ids


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shard_bytes", [1, 5000, 2**29])
def test_in_any_dtype_and_any_number_of_files(
    open_desk: OpenDesk, tmp_path: Path, dtype: torch.dtype, shard_bytes: int
) -> None:
    desk = open_desk("gpt2", dtype, shard_bytes)
    varied(desk.stand)
    for revision in (0, 1, 2):
        files = desk.checkpoint(revision)
        shards = [name for name in files if name.endswith(".safetensors")]
        assert (len(shards) > 1) is ("model.safetensors.index.json" in files) is (shard_bytes < 2**29)
        loaded = loaded_from(unpacked(files, tmp_path / str(revision)), desk.stand.loaded)
        assert loaded.dtype is dtype
        assert Resident(loaded).base_checksum == desk.stand.ledger.entries()[revision].checksum


def test_tied_weights_are_there_once(open_desk: OpenDesk) -> None:
    desk = open_desk("gpt2")
    assert desk.stand.loaded.config.tie_word_embeddings
    names = desk.stand.resident.whole({})
    assert "transformer.wte.weight" in names
    assert "lm_head.weight" not in names


@pytest.mark.parametrize("head", ["base", "another edit"])
def test_what_is_installed_meanwhile_does_not_matter(open_desk: OpenDesk, tmp_path: Path, head: str) -> None:
    desk = open_desk("llama")
    stand = desk.stand
    revision = stand.commit(random_delta(stand.loaded, 0, 1, 2, 3)).revision
    wanted = stand.ledger.entries()[revision].checksum
    exported, files = desk.made(export="checkpoint", revision=revision)
    name = desk.take_up(export="checkpoint", revision=revision, file="model.safetensors")
    for _ in range(12):
        desk.step()
    assert name not in desk.heard
    if head == "base":
        stand.history.rollback(0)
    else:
        stand.commit(random_delta(stand.loaded, 0, 1, 2, 3, seed=9))
    stand.history.forget()
    desk.finish()
    answer = desk.heard[name]
    assert answer is not None
    assert answer.exported is not None
    files |= desk.files(name, answer.exported)
    loaded = loaded_from(unpacked(files, tmp_path / "model"), stand.loaded)
    assert Resident(loaded).base_checksum == wanted
    assert [file.name for file in exported.files if file.sha256 is None] == ["model.safetensors"]


def test_the_publishers_generation_settings_go_along() -> None:
    tiny = tiny_model("llama")
    published = GenerationConfig(temperature=0.6, top_p=0.9, eos_token_id=[1, 2])  # as published: sampling is not on
    loaded = LoadedModel(tiny.name, tiny.model, tiny.tokenizer, tiny.family, published)
    said = json.loads(companions(loaded)["generation_config.json"])
    assert (said["temperature"], said["top_p"], said["eos_token_id"]) == (0.6, 0.9, [1, 2])
    assert json.loads(companions(tiny)["generation_config.json"])["eos_token_id"] == 1


def test_nothing_says_where_the_model_came_from(tmp_path: Path) -> None:
    tiny = tiny_model("llama")
    tiny.model.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    loaded = LoadedModel(tiny.name, model, AutoTokenizer.from_pretrained(tmp_path), tiny.family)
    assert all(str(tmp_path).encode() not in content for content in companions(loaded).values())
