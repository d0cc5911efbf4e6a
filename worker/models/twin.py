"""A copy of a model's upper layers in another dtype, for computing faster than the resident weights allow."""

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from worker.models.attention import use_prefix_attention
from worker.models.loaded import LoadedModel
from worker.models.view import SeenForward, seen_weight


def twin_of(loaded: LoadedModel, above: int, dtype: torch.dtype | None) -> LoadedModel:
    """A model whose blocks above layer `above` and whose head hold the weights of the view in force in `dtype`.

    The blocks below and the embeddings, which do not run, are shared with the original, so the copy costs what is
    converted and no more. It is the original itself where there is nothing to convert.
    """
    if dtype in (None, loaded.dtype) or above == loaded.layers - 1:
        return loaded
    memo: dict[int, Any] = {id(buffer): buffer for buffer in loaded.model.buffers()}
    below = [loaded.module(loaded.family.layer, layer) for layer in range(above + 1)]
    memo |= {id(parameter): parameter for module in below for parameter in module.parameters()}
    embeddings, head = loaded.model.get_input_embeddings(), loaded.model.get_submodule(loaded.family.head)
    tied = {id(parameter) for parameter in head.parameters()}
    memo |= {id(parameter): parameter for parameter in embeddings.parameters() if id(parameter) not in tied}
    for module in loaded.model.modules():
        if isinstance(forward := module.__dict__.get("forward"), SeenForward):
            memo[id(forward)] = None  # its weight is the copy's own
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in memo:
                value = seen_weight(module) if name == "weight" else parameter.data
                memo[id(parameter)] = nn.Parameter(value.to(dtype), requires_grad=False)
    model = copy.deepcopy(loaded.model, memo)
    for module in model.modules():
        if "forward" in module.__dict__ and module.__dict__["forward"] is None:
            del module.__dict__["forward"]
    if loaded.device.type == "cpu" and loaded.family.attention == "sdpa" and dtype is not torch.float32:
        use_prefix_attention(model)
    return replace(loaded, model=model)
