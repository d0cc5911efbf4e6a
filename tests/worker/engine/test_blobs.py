"""A blob is what was written, or an error that names it."""

from pathlib import Path

import pytest
import torch

from tests.families import tiny_model
from tests.worker.engine.kit import low_rank, random_delta
from worker.editing.delta import LowRank, WeightDelta
from worker.engine.blobs import BlobStore
from worker.errors import CorruptStateError


@pytest.fixture
def delta() -> WeightDelta:
    return random_delta(tiny_model("gpt2"), 0, 3, rank=2)


def test_a_delta_comes_back_bit_for_bit(tmp_path: Path, delta: WeightDelta) -> None:
    digest = BlobStore(tmp_path).put(delta)
    again = BlobStore(tmp_path).get(digest)
    assert list(again.layers) == [0, 3]
    for layer, change in delta.layers.items():
        assert torch.equal(low_rank(again.layers[layer]).residuals, low_rank(change).residuals)
        assert torch.equal(low_rank(again.layers[layer]).solver, low_rank(change).solver)


def test_the_name_is_the_content(tmp_path: Path, delta: WeightDelta) -> None:
    store = BlobStore(tmp_path / "deep" / "folder")
    digest = store.put(delta)
    assert store.put(delta) == digest
    known = {layer: low_rank(change) for layer, change in delta.layers.items()}
    turned = {layer: LowRank(change.residuals.clone(), -change.solver) for layer, change in known.items()}
    other = store.put(WeightDelta(turned))
    names = {path.name for path in (tmp_path / "deep" / "folder").iterdir()}
    assert names == {f"{digest}.safetensors", f"{other}.safetensors"}


def test_factors_may_lie_in_memory_as_they_like(tmp_path: Path) -> None:
    wide = torch.randn(3, 8)
    store = BlobStore(tmp_path)
    again = store.get(store.put(WeightDelta({2: LowRank(wide.T, torch.randn(8, 6)[:, ::2])})))
    assert torch.equal(low_rank(again.layers[2]).residuals, wide.T)


@pytest.mark.parametrize("at", [0, 100, -1])
def test_a_flipped_bit_is_found(tmp_path: Path, delta: WeightDelta, at: int) -> None:
    store = BlobStore(tmp_path)
    digest = store.put(delta)
    path = tmp_path / f"{digest}.safetensors"
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptStateError, match=digest):
        store.get(digest)


@pytest.mark.parametrize("length", [0, 7, 200])
def test_a_truncated_blob_is_found(tmp_path: Path, delta: WeightDelta, length: int) -> None:
    store = BlobStore(tmp_path)
    digest = store.put(delta)
    path = tmp_path / f"{digest}.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CorruptStateError, match=digest):
        store.get(digest)


def test_a_missing_blob_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptStateError, match=r"0123.*Restore it from a backup"):
        BlobStore(tmp_path).get("0123")
