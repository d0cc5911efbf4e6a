"""A checkpoint's tensors in files: what is told beforehand is what is written, and safetensors reads it."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load
from torch import Tensor

from worker.export.shards import DTYPES, index_of, shards_of

SHAPES = st.lists(st.integers(0, 5), max_size=3).map(tuple)


def tensor(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return (100 * torch.rand(shape)).to(dtype)


@given(
    described=st.lists(st.tuples(SHAPES, st.sampled_from(list(DTYPES))), min_size=1, max_size=12),
    most=st.integers(1, 600),
    chunk=st.integers(1, 64),
)
@settings(deadline=None, database=None)
def test_any_tensors_come_back(described: list[tuple[tuple[int, ...], torch.dtype]], most: int, chunk: int) -> None:
    tensors = {f"t.{number}": tensor(*one) for number, one in enumerate(described)}
    shards = shards_of(tensors, most)
    found: dict[str, Tensor] = {}
    for shard in shards:
        header, *chunks = shard.chunks(chunk)
        assert all(len(piece) <= chunk for piece in chunks)
        content = b"".join([header, *chunks])
        assert len(content) == shard.bytes
        read = load(content)
        assert len(read) == 1 or sum(one.nbytes for one in read.values()) <= most
        assert not found.keys() & read.keys()
        found |= read
    assert found.keys() == tensors.keys()
    for name, known in tensors.items():
        assert found[name].dtype is known.dtype
        assert torch.equal(found[name], known)
    weight_map = json.loads(index_of(shards))["weight_map"]
    assert weight_map == {name: shard.name for shard in shards for name in shard.tensors}


def test_names_are_those_that_transformers_looks_for() -> None:
    tensors = {str(number): torch.zeros(4) for number in range(3)}
    assert [shard.name for shard in shards_of(tensors)] == ["model.safetensors"]
    assert [shard.name for shard in shards_of(tensors, 16)] == [
        f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)
    ]
    assert json.loads(index_of(shards_of(tensors, 16)))["metadata"] == {"total_size": 48}


def test_a_tensor_on_the_cpu_is_not_copied() -> None:
    weight = torch.arange(8.0)
    _, chunk = shards_of({"w": weight})[0].chunks()
    weight[0] = 5
    assert torch.frombuffer(bytearray(chunk), dtype=torch.float32)[0] == 5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_tensor_on_a_gpu_is_read_in_pieces(tmp_path: Path) -> None:
    weight = torch.randn(64, 64, device="cuda", dtype=torch.bfloat16)
    path = tmp_path / "one"
    path.write_bytes(b"".join(shards_of({"w": weight})[0].chunks(1000)))
    assert torch.equal(load(path.read_bytes())["w"], weight.cpu())
