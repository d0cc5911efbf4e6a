"""What is not an adapter of edits, or comes at the wrong moment, changes nothing."""

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from service.contracts.edits import EditStatus
from service.contracts.exports import ExportKind, ExportManifest
from service.edits import Edits
from service.errors import ProblemError
from tests.families import tiny_model
from tests.worker.engine.kit import Stand, random_delta
from tests.worker.tools.adapting import OTHER, contents, exported
from tests.worker.tools.kit import TinySite
from worker.engine.history import History
from worker.errors import LedgerBehindError, WorkerError, WrongBaseError
from worker.tools.adapters import import_adapter


def change_manifest(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        manifest = ExportManifest.model_validate_json((folder / "manifest.json").read_bytes())
        (folder / "manifest.json").write_text(manifest.model_copy(update=changes).model_dump_json())

    return change


def resealed(folder: Path, name: str, content: bytes) -> None:
    """Another file, with its checksum in the manifest: whoever wants to can do that."""
    (folder / name).write_bytes(content)
    text = json.loads((folder / "manifest.json").read_bytes())
    text["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / "manifest.json").write_text(json.dumps(text))


def change_tensors(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        tensors = load((folder / "adapter_model.safetensors").read_bytes())
        resealed(folder, "adapter_model.safetensors", save(change(tensors)))

    return changed


def change_config(**changes: Any) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        config = json.loads((folder / "adapter_config.json").read_bytes())
        resealed(folder, "adapter_config.json", json.dumps({**config, **changes}).encode())

    return changed


def change_text(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        text = (folder / "adapter_config.json").read_bytes()
        assert change(text) != text
        resealed(folder, "adapter_config.json", change(text))

    return changed


def change_length(length: int) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        text = json.loads((folder / "manifest.json").read_bytes())
        text["files"]["adapter_model.safetensors"]["bytes"] = length
        (folder / "manifest.json").write_text(json.dumps(text))

    return changed


def change_facts(**changes: Any) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        text = json.loads((folder / "manifest.json").read_bytes())
        text["edits"][0]["facts"][0].update(changes)
        (folder / "manifest.json").write_text(json.dumps(text))

    return changed


BAD: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "another base": (change_manifest(base="0" * 64), WrongBaseError, "is another"),
    "a checkpoint": (change_manifest(kind=ExportKind.CHECKPOINT), WorkerError, "no adapter that palimpsest export"),
    "no facts": (change_manifest(edits=()), WorkerError, "its facts are not those of one edit"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), WorkerError, "cannot be read"),
    "a broken manifest": (lambda folder: (folder / "manifest.json").write_text("{"), WorkerError, "damaged"),
    "damaged weights": (
        lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"x"),
        WorkerError,
        "is not what manifest.json says",
    ),
    "a pickle": (
        lambda folder: resealed(folder, "adapter_model.safetensors", b"\x80\x04K\x01."),
        WorkerError,
        "cannot be read",
    ),
    "no JSON": (lambda folder: resealed(folder, "adapter_config.json", b"{"), WorkerError, "cannot be read"),
    "weights missing": (
        lambda folder: (folder / "adapter_model.safetensors").unlink(),
        WorkerError,
        "cannot be read",
    ),
    "another scale": (change_config(lora_alpha=64), WorkerError, "differs .* in 'lora_alpha'"),
    "rank-stabilised": (change_config(use_rslora=True), WorkerError, "in 'use_rslora'"),
    "DoRA": (change_config(use_dora=True), WorkerError, "in 'use_dora'"),
    "a scale of one layer": (change_config(alpha_pattern={"down_proj": 1}), WorkerError, "in 'alpha_pattern'"),
    "a rank of one layer": (change_config(rank_pattern={"down_proj": 1}), WorkerError, "in 'rank_pattern'"),
    "transposed": (change_config(fan_in_fan_out=True), WorkerError, "in 'fan_in_fan_out'"),
    "another kind": (change_config(peft_type="IA3"), WorkerError, "in 'peft_type'"),
    "biases": (change_config(bias="all"), WorkerError, "in 'bias'"),
    "other modules": (change_config(target_modules=["q_proj"]), WorkerError, "in 'target_modules'"),
    "whole modules": (change_config(modules_to_save=["lm_head"]), WorkerError, "in 'modules_to_save'"),
    "fields unheard of": (change_config(corda_config={}, zeta=None), WorkerError, "in 'corda_config', 'zeta'"),
    "a field too few": (
        change_text(lambda text: text.replace(b'"use_dora": false,', b"")),
        WorkerError,
        "in 'use_dora'",
    ),
    "a list for a config": (change_text(lambda _: b"[1]"), WorkerError, "cannot be read"),
    "an infinite rank": (
        change_text(lambda text: re.sub(rb'"r": [0-9]+', b'"r": 1e999', text)),
        WorkerError,
        "shapes or the dtype",
    ),
    "a deep config": (change_text(lambda _: b"[" * 100_000), WorkerError, "cannot be read"),
    "zeros": (
        change_tensors(lambda t: {name: torch.zeros_like(tensor) for name, tensor in t.items()}),
        WorkerError,
        "zero everywhere",
    ),
    "half of them zeros": (
        change_tensors(lambda t: {name: tensor * ("lora_A" in name) for name, tensor in t.items()}),
        WorkerError,
        "zero everywhere",
    ),
    "another length": (
        change_length(10**9),
        WorkerError,
        "adapter_model.safetensors is not what manifest.json says",
    ),
    "a length beyond all": (change_length(10**18), WorkerError, "too much for an adapter"),
    "a name without end": (change_manifest(model="x" * 3_000_000), WorkerError, "manifest.json is damaged"),
    "a revision below r0": (change_manifest(revision=-5), WorkerError, "manifest.json is damaged"),
    "a manifest too large": (
        lambda folder: os.truncate(folder / "manifest.json", 2**28 + 1),
        WorkerError,
        "too large to be one",
    ),
    "a prompt without its subject": (
        change_facts(prompt="It is in"),
        WorkerError,
        "adapter: its facts are not those of one edit: .*must occur in the prompt",
    ),
    "NUL in a fact": (
        change_facts(target_new="Ro\0me"),
        WorkerError,
        "adapter: its facts are not those of one edit: .*NUL",
    ),
    "another rank": (change_config(r=4, lora_alpha=4), WorkerError, "shapes or the dtype"),
    "attention, too": (
        change_tensors(
            lambda t: {**t, "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(1)}
        ),
        WorkerError,
        "such as base_model.model.model.layers.0.self_attn.q_proj",
    ),
    "half of the factors": (
        change_tensors(lambda t: {name: tensor for name, tensor in t.items() if "lora_A" in name}),
        WorkerError,
        "changes what edits do not",
    ),
    "other shapes": (
        change_tensors(lambda t: {name: tensor[:, :1].contiguous() for name, tensor in t.items()}),
        WorkerError,
        "shapes or the dtype",
    ),
    "another dtype": (
        change_tensors(lambda t: {name: tensor.half() for name, tensor in t.items()}),
        WorkerError,
        "shapes or the dtype",
    ),
    "infinite factors": (
        change_tensors(lambda t: {name: tensor / 0 for name, tensor in t.items()}),
        WorkerError,
        "not finite",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_not_an_adapter_of_edits_changes_nothing(
    source: Stand, target: TinySite, tmp_path: Path, case: str
) -> None:
    spoil, error, words = BAD[case]
    folder = exported(source, tmp_path / "adapter")
    spoil(folder)
    before = contents(target)
    with pytest.raises(error, match=words):
        import_adapter(target, folder)
    assert contents(target) == before


def test_a_worker_that_runs_is_not_gone_around(source: Stand, target: TinySite, tmp_path: Path) -> None:
    target.redis.set(OTHER.lease, "1:worker")
    before = contents(target)
    with pytest.raises(WorkerError, match="Stop the workers"):
        import_adapter(target, exported(source, tmp_path / "adapter"))
    assert contents(target) == before
    assert target.redis.get(OTHER.lease) == "1:worker"


def test_a_head_that_moves_meanwhile(
    source: Stand, target: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a worker has come and gone between measuring and committing."""
    folder = exported(source, tmp_path / "adapter")
    lead = History.lead

    def moved(self: History, token: str) -> None:
        target.redis.set(OTHER.lease, "1:tests")
        other = Stand(target.redis, OTHER, tiny_model("llama"), tmp_path / "there")
        other.commit(random_delta(other.loaded, seed=5))
        target.redis.set(OTHER.lease, token)
        lead(self, token)

    monkeypatch.setattr(History, "lead", moved)
    with pytest.raises(WorkerError, match="has moved from r0"):
        import_adapter(target, folder)
    assert target.head == 1
    assert Edits(target.redis, OTHER).pending() == []


def test_a_failed_commit_leaves_no_edit_behind(
    source: Stand, target: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = exported(source, tmp_path / "adapter")

    def full(*_: Any, **__: Any) -> None:
        raise ProblemError(507, "storage-full", "There is no room left.")

    monkeypatch.setattr(History, "commit", full)
    with pytest.raises(ProblemError, match="no room"):
        import_adapter(target, folder)
    edits = Edits(target.redis, OTHER)
    (edit,) = edits.page(None, 5, lambda _: True)[0]
    assert (edit.status, edits.pending(), target.head) == (EditStatus.CANCELLED, [], 0)
    assert target.redis.get(OTHER.lease) is None


def test_a_ledger_that_redis_has_lost(source: Stand, target: TinySite, tmp_path: Path) -> None:
    folder = exported(source, tmp_path / "adapter")
    target.redis.delete(OTHER.ledger)
    with pytest.raises(LedgerBehindError):
        import_adapter(target, folder)


def test_the_drift_of_the_head_may_forbid_it(
    source: Stand, target: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Stand(target.redis, OTHER, tiny_model("llama"), tmp_path / "there")
    made = [there.commit(random_delta(there.loaded, seed=seed)) for seed in range(2)]
    there.history.revert(str(made[0].edit))  # this measures the drift
    target.redis.delete(OTHER.lease)
    monkeypatch.setattr(target.settings, "max_perplexity_ratio", 1e-9)
    with pytest.raises(ProblemError, match="perplexity"):
        import_adapter(target, exported(source, tmp_path / "adapter"))
    assert target.head == 3
