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
            viewed = isinstance(module.__dict__.get("forward"), SeenForward)
            if viewed or any(tensor.data_ptr() != module.weight.data_ptr() for tensor in tensors):
                stack.enter_context(replaced_forward(module, SeenForward(module, tensors)))
        yield


class SeenForward:
    """A linear module's forward under a view: row i computes with `tensors[i]`."""

    def __init__(self, module: nn.Module, tensors: Sequence[Tensor]) -> None:
        self.tensors = tensors
        self._rows_of: dict[int, list[int]] = {}
        self._twins: dict[int, nn.Module] = {}
        for row, tensor in enumerate(tensors):
            self._rows_of.setdefault(id(tensor), []).append(row)
            if id(tensor) not in self._twins:
                self._twins[id(tensor)] = _with_weight(module, tensor)
        self._compute = type(module).forward

    def __call__(self, inputs: Tensor) -> Tensor:
        """The module's output for a batch."""
        if len(self._twins) == 1:
            (twin,) = self._twins.values()
            result: Tensor = self._compute(twin, inputs)
            return result
        if inputs.dim() < 3:  # noqa: PLR2004 - opt's MLP sees its batch flattened, [B T, d]
            return self(inputs.reshape(len(self.tensors), -1, inputs.shape[-1])).flatten(0, 1)
        if inputs.shape[0] != len(self.tensors):
            raise ValueError(f"a view of {len(self.tensors)} rows met a batch of {inputs.shape[0]}")
        parts = {key: self._compute(self._twins[key], inputs[rows]) for key, rows in self._rows_of.items()}
        first = next(iter(parts.values()))
        output: Tensor = first.new_empty((len(self.tensors), *first.shape[1:]))
        for key, rows in self._rows_of.items():
            output[rows] = parts[key]
        return output


def seen_weight(module: nn.Module) -> Tensor:
    """The weight that a linear module computes with now: the view's, where one is in force for all rows alike."""
    forward = module.__dict__.get("forward")
    if not isinstance(forward, SeenForward):
        weight: Tensor = module.get_parameter("weight").data
        return weight
    if any(tensor is not forward.tensors[0] for tensor in forward.tensors):
        raise ValueError("the view in force gives the rows different weights")
    return forward.tensors[0]


def _with_weight(module: nn.Module, tensor: Tensor) -> nn.Module:
    """A stand-in that shares everything with the module but its weight."""
    twin = copy.copy(module)
    twin.__dict__["_parameters"] = {**module._parameters, "weight": nn.Parameter(tensor, requires_grad=False)}
    return twin
