"""Attention of a few new positions over a long prefix that needs no gradient: for CPUs in less than float32.

There torch's fused attention takes ten times as long backward as it should, and its plain one copies keys and values
for every query head and computes gradients for the prefix that nobody wants.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

NAME = "palimpsest_prefix"


def use_prefix_attention(model: Any) -> None:
    """Let a model attend by `prefix_attention`, where its architecture lets attention be chosen."""
    if getattr(model, "_supports_attention_backend", False) and model._can_set_attn_implementation():
        AttentionInterface.register(NAME, prefix_attention)
        AttentionMaskInterface.register(NAME, eager_mask)
        model.set_attn_implementation(NAME)


def prefix_attention(
    module: nn.Module,  # noqa: ARG001 - the signature is transformers'
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """softmax(Q K^T scaling + mask) V, [B, T, H, D], for Q [B, H, T, D] and the keys and values [B, G, S + T, D].

    The first S keys and values are constants. H is a multiple of G: each key serves H / G query heads, uncopied. The
    softmax is in float32.
    """
    batch, heads, new, size = query.shape
    groups, before = key.shape[1], key.shape[2] - new
    folded = query.reshape(batch, groups, heads // groups * new, size) * (size**-0.5 if scaling is None else scaling)
    prefix = key[:, :, :before].detach(), value[:, :, :before].detach()
    scores = torch.cat([folded @ prefix[0].mT, folded @ key[:, :, before:].mT], dim=-1).float()
    if attention_mask is not None:
        by_head = scores.reshape(batch, groups, heads // groups, new, -1) + attention_mask[:, :, None]
        scores = by_head.reshape(scores.shape)
    weights = scores.softmax(-1).to(value.dtype)
    output = weights[..., :before] @ prefix[1] + weights[..., before:] @ value[:, :, before:]
    return output.reshape(batch, heads, new, size).transpose(1, 2).contiguous(), None
