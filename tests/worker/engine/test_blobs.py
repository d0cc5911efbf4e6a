"""A blob is what was written, or an error that names it."""

from pathlib import Path

import pytest
import torch

from tests.families import tiny_model
from tests.worker.engine.kit import dense_delta, low_rank, random_delta
from worker.editing.delta import Dense, LowRank, WeightDelta
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


def test_keys_and_changes_without_factors_come_back_too(tmp_path: Path) -> None:
    """Of any layers, in whatever order they were given; a layer has a change, keys, or both."""
    loaded = tiny_model("llama")
    generator = torch.Generator().manual_seed(0)
    changes = {**dense_delta(loaded, 10, 2).layers, **random_delta(loaded, 9, 0, rank=3, scale=1e-30).layers}
    keys = {layer: torch.randn(64, count, generator=generator) for layer, count in ((10, 3), (9, 1), (0, 0))}
    keys[9][5] = float("nan")
    digest = BlobStore(tmp_path).put(WeightDelta(changes, keys))
    again = BlobStore(tmp_path).get(digest)
    assert list(again.layers) == [0, 2, 9, 10]
    for layer in (2, 10):
        found = again.layers[layer]
        assert isinstance(found, Dense)
        assert torch.equal(found.change, changes[layer].dense())
    for layer in (0, 9):
        assert torch.equal(low_rank(again.layers[layer]).residuals, low_rank(changes[layer]).residuals)
        assert torch.equal(low_rank(again.layers[layer]).solver, low_rank(changes[layer]).solver)
    assert again.keys.keys() == keys.keys()
    for layer, known in keys.items():
        assert again.keys[layer].shape == known.shape
        assert again.keys[layer].dtype is torch.float32
        assert torch.equal(again.keys[layer].nan_to_num(7.0), known.nan_to_num(7.0))
    assert BlobStore(tmp_path).put(again) == digest


def test_keys_are_part_of_the_name(tmp_path: Path, delta: WeightDelta) -> None:
    store = BlobStore(tmp_path)
    names = {store.put(WeightDelta(delta.layers, keys)) for keys in ({}, {0: torch.ones(4, 1)}, {3: torch.ones(4, 1)})}
    assert len(names) == 3


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
