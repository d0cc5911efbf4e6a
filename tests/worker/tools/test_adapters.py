"""An adapter that is taken elsewhere becomes one edit there, to the last bit; anything else changes nothing."""

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from redis import Redis

from service.contracts.edits import EditStatus
from service.contracts.revisions import Revision, RevisionKind
from service.edits import Edits
from tests.families import tiny_model
from tests.worker.engine.kit import Stand, dense_delta, live_checksum, random_delta
from tests.worker.tools.adapting import HERE, OTHER, exported
from tests.worker.tools.kit import TinySite, site_of
from worker.tools.__main__ import main
from worker.tools.adapters import import_adapter
from worker.tools.fsck import Check


def packed(folder: Path) -> Path:
    """The same as one file."""
    path = folder.with_suffix(".tar")
    with tarfile.open(path, "w") as tar:
        for name in ("adapter_config.json", "adapter_model.safetensors", "manifest.json"):
            tar.add(folder / name, f"{folder.name}/{name}")
    return path


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
    assert main(["import-adapter", str(folder), "--json"]) == 0
    assert Revision.model_validate_json(capsys.readouterr().out).revision == 2
    assert main(["import-adapter", str(tmp_path / "nowhere")]) == 2
    assert "cannot be read" in capsys.readouterr().err
