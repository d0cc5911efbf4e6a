"""A checkpoint's tensors as safetensors files of bounded size, told before they are written, and written in pieces."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

SHARD_BYTES = 2**30
"""Of one file, unless a single tensor is larger."""

CHUNK_BYTES = 2**24
"""Taken from the model in one step."""

INDEX = "model.safetensors.index.json"

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""As the safetensors format names them."""


@dataclass(frozen=True)
class Shard:
    """One file: its name, its header, and the tensors behind it, in order."""

    name: str
    header: bytes
    tensors: Mapping[str, Tensor]

    @property
    def bytes(self) -> int:
        """Of the whole file."""
        return len(self.header) + sum(tensor.nbytes for tensor in self.tensors.values())

    def chunks(self, most: int = CHUNK_BYTES) -> Iterator[memoryview]:
        """The file's content; each piece is on the CPU when it is given out, and none is larger than `most` bytes.

        A tensor that lies on the CPU already is not copied.
        """
        yield memoryview(self.header)
        for tensor in self.tensors.values():
            flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
            for begin in range(0, flat.numel(), most):
                yield flat[begin : begin + most].cpu().numpy().data


def shards_of(tensors: Mapping[str, Tensor], most: int = SHARD_BYTES) -> tuple[Shard, ...]:
    """The files that hold these tensors, in their order."""
    groups: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if groups[-1] and size + tensor.nbytes > most:
            groups.append({})
            size = 0
        groups[-1][name] = tensor
        size += tensor.nbytes
    return tuple(_shard(_name(number, len(groups)), group) for number, group in enumerate(groups, 1))


def index_of(shards: tuple[Shard, ...]) -> bytes:
    """Which file has which tensor, as transformers reads it where there is more than one."""
    total = sum(tensor.nbytes for shard in shards for tensor in shard.tensors.values())
    weight_map = {name: shard.name for shard in shards for name in shard.tensors}
    return json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2).encode()


def _name(number: int, of: int) -> str:
    return "model.safetensors" if of == 1 else f"model-{number:05}-of-{of:05}.safetensors"


def _shard(name: str, group: Mapping[str, Tensor]) -> Shard:
    # Wide elements first, so that all lie where their width wants them, the header being a multiple of 8 bytes.
    ordered = dict(sorted(group.items(), key=lambda item: -item[1].element_size()))
    described: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for tensor_name, tensor in ordered.items():
        end = begin + tensor.nbytes
        described[tensor_name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return Shard(name, len(text).to_bytes(8, "little") + text, ordered)
