"""A view picks weights per row: before and after are two rows of one batch."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from worker.models.hooks import replaced_forward

Weights = Mapping[str, Tensor]
"""The edited weights of one state, by parameter name; a name that is absent has the base's."""


@contextmanager
def rows_see(model: Any, weights: Sequence[Mapping[str, Tensor]]) -> Iterator[None]:
    """Let row i of every batch compute with `weights[i]`; all mappings have the same names.

    The modules' own forward runs with other weights, so the numbers are those of a model that has them installed.
    One mapping alone holds for all rows.
    """
    with ExitStack() as stack:
        for name in weights[0]:
            module = model.get_submodule(name.removesuffix(".weight"))
            tensors = [row[name] for row in weights]
            if any(tensor.data_ptr() != module.weight.data_ptr() for tensor in tensors):
                stack.enter_context(replaced_forward(module, _forward(module, tensors)))
        yield


def _forward(module: nn.Module, tensors: Sequence[Tensor]) -> Any:
    rows_of: dict[int, list[int]] = {}
    twins: dict[int, nn.Module] = {}
    for row, tensor in enumerate(tensors):
        rows_of.setdefault(id(tensor), []).append(row)
        if id(tensor) not in twins:
            twins[id(tensor)] = _with_weight(module, tensor)
    compute = type(module).forward

    def forward(inputs: Tensor) -> Tensor:
        if len(twins) == 1:
            (twin,) = twins.values()
            result: Tensor = compute(twin, inputs)
            return result
        if inputs.shape[0] != len(tensors):
            raise ValueError(f"a view of {len(tensors)} rows met a batch of {inputs.shape[0]}")
        parts = {key: compute(twins[key], inputs[rows]) for key, rows in rows_of.items()}
        first = next(iter(parts.values()))
        output: Tensor = first.new_empty((len(tensors), *first.shape[1:]))
        for key, rows in rows_of.items():
            output[rows] = parts[key]
        return output

    return forward


def _with_weight(module: nn.Module, tensor: Tensor) -> nn.Module:
    """A stand-in that shares everything with the module but its weight."""
    twin = copy.copy(module)
    twin.__dict__["_parameters"] = {**module._parameters, "weight": nn.Parameter(tensor, requires_grad=False)}
    return twin
