"""Exports from real processes: what PEFT and transformers load says what was served, while edits go on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from service.contracts.edits import EditStatus
from service.contracts.exports import ExportKind, ExportManifest
from service.errors import ProblemError
from tests.e2e.kit import FACT, MODEL, SLOW, Place, open_place, until
from worker.engine.resident import Resident
from worker.models.families import family_of
from worker.models.loaded import LoadedModel

# peft asks transformers for what it has renamed
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

WORDS = 8


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    from tests.conftest import _free_port

    with open_place(tmp_path_factory.mktemp("exports"), _free_port) as made:
        made.hire()
        for changes in ({}, {"method": "memit", "hparams": {}}):
            edit = made.ended(made.submit(**changes).id)
            assert edit.status is EditStatus.APPLIED, edit.problem
        yield made


def loaded(folder: Path) -> LoadedModel:
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True)
    return LoadedModel(MODEL, model, AutoTokenizer.from_pretrained(folder), family_of("llama"))


def said(model: Any, tokenizer: Any) -> str:
    """The greedy continuation of the edited prompt."""
    ids = tokenizer(FACT["prompt"], return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=WORDS, do_sample=False, pad_token_id=0)
    return str(tokenizer.decode(out[0][ids["input_ids"].shape[1] :], skip_special_tokens=True))


def test_a_checkpoint_is_what_is_served(place: Place, tmp_path: Path) -> None:
    for revision in (0, 1, 2):
        folder = tmp_path / str(revision)
        received = place.client.export(ExportKind.CHECKPOINT, folder, revision)
        assert received.revision == revision
        model = loaded(folder)
        assert Resident(model).base_checksum == place.checksums()[revision]
        assert said(model.model, model.tokenizer) == place.compare(after=revision, max_new_tokens=WORDS).after.text


def test_an_adapter_says_what_is_served(place: Place, tmp_path: Path) -> None:
    received = place.client.export(ExportKind.ADAPTER, tmp_path / "adapter")
    assert (received.revision, received.rank, received.error) == (2, 2, 0.0)
    manifest = ExportManifest.model_validate_json((tmp_path / "adapter" / "manifest.json").read_bytes())
    assert [edit.method for edit in manifest.edits] == ["rome", "memit"]
    assert manifest.edits[0].facts[0].target_new == FACT["target_new"]
    assert (manifest.base, manifest.checksum) == (place.checksums()[0], place.checksums()[2])
    base = loaded(place.root / MODEL)
    adapted = PeftModel.from_pretrained(base.model, str(tmp_path / "adapter")).eval()
    assert said(adapted, base.tokenizer) == place.compare(max_new_tokens=WORDS).after.text
    merged = LoadedModel(MODEL, adapted.merge_and_unload(), base.tokenizer, base.family)
    with torch.no_grad():
        assert said(merged.model, base.tokenizer) == place.compare(max_new_tokens=WORDS).after.text


def test_the_base_has_no_adapter(place: Place, tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="nothing to adapt"):
        place.client.export(ExportKind.ADAPTER, tmp_path / "adapter", "base")


def test_exports_beside_an_edit(place: Place, tmp_path: Path) -> None:
    """The edit goes on; what comes is the revision that was asked for."""
    head = len(place.checksums()) - 1
    edit = place.submit(hparams=SLOW)
    place.at_value_step(edit.id)
    place.client.export(ExportKind.CHECKPOINT, tmp_path / "c", "head")
    place.client.export(ExportKind.ADAPTER, tmp_path / "a", "head")
    assert place.client.edits.get(edit.id).status is EditStatus.RUNNING
    place.client.edits.cancel(edit.id)
    manifests = [ExportManifest.model_validate_json((tmp_path / d / "manifest.json").read_bytes()) for d in ("a", "c")]
    assert {manifest.revision for manifest in manifests} == {head}
    assert Resident(loaded(tmp_path / "c")).base_checksum == place.checksums()[head]


def test_nothing_stays_in_the_storage(place: Place, tmp_path: Path) -> None:
    with place.http.stream("GET", "/revisions/head/checkpoint") as answer:
        assert answer.is_success
    place.client.export(ExportKind.CHECKPOINT, tmp_path / "c.tar")
    until(lambda: list((place.blobs / "exports").iterdir()) == [])


def test_a_worker_that_is_killed_is_replaced(place: Place, tmp_path: Path) -> None:
    """Any worker makes the same files."""
    before = place.http.get("/revisions/2/adapter")
    place.hire().kill()
    with pytest.raises(ProblemError):
        place.client.export(ExportKind.CHECKPOINT, tmp_path / "c", 2)
    assert list(tmp_path.iterdir()) == []
    place.hire()
    after = place.http.get("/revisions/2/adapter")
    assert after.content == before.content
    assert after.headers["ETag"] == before.headers["ETag"]
    place.client.export(ExportKind.CHECKPOINT, tmp_path / "c", 2)
    config = json.loads((tmp_path / "c" / "config.json").read_text())
    assert (config["architectures"], config["dtype"]) == (["LlamaForCausalLM"], "float32")
