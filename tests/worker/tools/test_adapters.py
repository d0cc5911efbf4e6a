"""An adapter that is taken elsewhere becomes one edit there, to the last bit; anything else changes nothing."""

import hashlib
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from redis import Redis
from safetensors.torch import load, save

from service.contracts.edits import EditStatus
from service.contracts.exports import ExportKind, ExportManifest, ExportRequest
from service.contracts.revisions import RevisionKind
from service.edits import Edits
from service.errors import ProblemError
from service.keys import Keys
from service.provenance import provenance
from tests.families import tiny_model
from tests.service.stand_in import model_card, queue_edit
from tests.worker.engine.kit import Stand, dense_delta, live_checksum, random_delta
from tests.worker.export.desk import ExportDesk, unpacked
from tests.worker.tools.kit import TinySite, site_of
from worker.engine.history import History
from worker.errors import LedgerBehindError, WorkerError, WrongBaseError
from worker.tools.__main__ import main
from worker.tools.adapters import import_adapter
from worker.tools.fsck import Check

HERE, OTHER = Keys("here"), Keys("elsewhere")


def exported(stand: Stand, folder: Path, rank: int = 256) -> Path:
    """The head's adapter, as `palimpsest export` brings it to disk."""
    revision = stand.resident.revision
    desk = ExportDesk(stand, folder.parent)
    found, files = desk.made(export="adapter", revision=revision, rank=rank)
    asked = ExportRequest(export=ExportKind.ADAPTER, revision=revision, rank=rank)
    card = model_card(checksum=stand.resident.base_checksum, name=stand.keys.model)
    manifest = provenance(asked, found, card, stand.ledger, stand.edits)
    return unpacked({**files, "manifest.json": manifest.model_dump_json().encode()}, folder)


def packed(folder: Path) -> Path:
    """The same as one file."""
    path = folder.with_suffix(".tar")
    with tarfile.open(path, "w") as tar:
        for name in ("adapter_config.json", "adapter_model.safetensors", "manifest.json"):
            tar.add(folder / name, f"{folder.name}/{name}")
    return path


@pytest.fixture
def source(redis: Redis, tmp_path: Path) -> Stand:
    """An installation with two edits of two different facts."""
    stand = Stand(redis, HERE, tiny_model("llama"), tmp_path / "here")
    for seed, changes in enumerate(({}, {"prompt": "The Eiffel Tower stands in", "target_new": "Bern"})):
        edit_id = queue_edit(stand.edits, **changes).id
        stand.edits.take_up(edit_id)
        stand.commit(random_delta(stand.loaded, 1, 1 + seed, seed=seed), edit_id)
    return stand


@pytest.fixture
def target(redis: Redis, tmp_path: Path) -> TinySite:
    """Another installation of the same model, at r0, whose workers are stopped."""
    Stand(redis, OTHER, tiny_model("llama"), tmp_path / "there")
    client: Any = redis
    client.delete(OTHER.lease)
    return site_of(redis, OTHER, tmp_path / "there")


def _contents(site: TinySite) -> tuple[Any, ...]:
    """What must not change: every key but the counter of leases, the ledger, the blobs."""
    keys = sorted(key for key in site.redis.keys("*elsewhere*") if not key.endswith(":fence"))
    return keys, site.redis.xrange(OTHER.ledger), dict(site.blobs.sizes())


@pytest.mark.parametrize("form", [lambda folder: folder, packed])
def test_it_becomes_one_edit_with_all_facts(
    source: Stand, target: TinySite, tmp_path: Path, form: Callable[[Path], Path]
) -> None:
    made = import_adapter(target, form(exported(source, tmp_path / "adapter")))
    assert (made.revision, made.parent, made.kind, made.active) == (1, 0, RevisionKind.EDIT, (made.edit,))
    assert made.checksum == source.ledger.entries()[2].checksum, "the factors are the deltas to the last bit"
    assert made.drift is not None
    edit = Edits(target.redis, OTHER).get(str(made.edit))
    assert (edit.status, edit.revision, edit.request.method) == (EditStatus.APPLIED, 1, "adapter")
    assert [fact.target_new for fact in edit.request.facts] == ["Rome", "Bern"]
    assert edit.request.hparams["checksum"] == made.checksum
    assert edit.outcome is not None
    assert len(edit.outcome.facts) == 2
    assert edit.outcome.warnings == ()
    assert target.redis.get(OTHER.lease) is None
    assert Check(target).run(fold=True).sound
    again = Stand(target.redis, OTHER, tiny_model("llama"), tmp_path / "there")
    assert live_checksum(again.loaded) == made.checksum
    assert again.history.revert(str(made.edit)).checksum == again.resident.base_checksum


def test_it_comes_on_top_of_what_is_there(source: Stand, target: TinySite, tmp_path: Path) -> None:
    there = Stand(target.redis, OTHER, tiny_model("llama"), tmp_path / "there")
    own = there.commit(random_delta(there.loaded, 2, 3, seed=9))
    target.redis.delete(OTHER.lease)
    made = import_adapter(target, exported(source, tmp_path / "adapter"))
    assert (made.revision, made.active) == (2, (own.edit, made.edit))
    with_both = there.history.state.plus(*source.history.deltas_at(2)).weights
    there.history.follow()
    assert all(torch.equal(there.resident.installed[name], tensor) for name, tensor in with_both.items())


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "opt"])
def test_of_any_family(redis: Redis, tmp_path: Path, family: str) -> None:
    source = Stand(redis, HERE, tiny_model(family), tmp_path / "here")
    source.commit(random_delta(source.loaded, 1, 2, rank=3))
    Stand(redis, OTHER, tiny_model(family), tmp_path / "there")
    client: Any = redis
    client.delete(OTHER.lease)
    target = site_of(redis, OTHER, tmp_path / "there", family)
    made = import_adapter(target, exported(source, tmp_path / "adapter"))
    assert made.checksum == source.ledger.entries()[1].checksum


def test_what_was_cut_off_is_told(source: Stand, target: TinySite, tmp_path: Path) -> None:
    made = import_adapter(target, exported(source, tmp_path / "adapter", rank=1))
    assert made.checksum != source.ledger.entries()[2].checksum
    outcome = Edits(target.redis, OTHER).get(str(made.edit)).outcome
    assert outcome is not None
    assert "of the change that it was made of" in outcome.warnings[0]


def test_fine_tuning_comes_along(redis: Redis, target: TinySite, tmp_path: Path) -> None:
    source = Stand(redis, HERE, tiny_model("llama"), tmp_path / "here")
    source.commit(dense_delta(source.loaded, 1))
    made = import_adapter(target, exported(source, tmp_path / "adapter"))
    there = Stand(target.redis, OTHER, tiny_model("llama"), tmp_path / "there")
    for name, tensor in source.resident.installed.items():
        torch.testing.assert_close(there.history.weights_at(made.revision)[name], tensor, rtol=1e-5, atol=1e-6)


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
    "another scale": (change_config(lora_alpha=64), WorkerError, "changes what edits do not"),
    "rank-stabilised": (change_config(use_rslora=True), WorkerError, "changes what edits do not"),
    "DoRA": (change_config(use_dora=True), WorkerError, "changes what edits do not"),
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
    before = _contents(target)
    with pytest.raises(error, match=words):
        import_adapter(target, folder)
    assert _contents(target) == before


def test_a_worker_that_runs_is_not_gone_around(source: Stand, target: TinySite, tmp_path: Path) -> None:
    target.redis.set(OTHER.lease, "1:worker")
    before = _contents(target)
    with pytest.raises(WorkerError, match="Stop the workers"):
        import_adapter(target, exported(source, tmp_path / "adapter"))
    assert _contents(target) == before
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


def test_the_command(
    source: Stand,
    target: TinySite,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = exported(source, tmp_path / "adapter")
    monkeypatch.setattr("worker.tools.__main__.Site.of", lambda _: target)
    assert main(["import-adapter", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "is r1 of elsewhere, as edit" in said
    assert "2 facts; share" in said
    assert main(["import-adapter", str(tmp_path / "nowhere")]) == 2
    assert "cannot be read" in capsys.readouterr().err
