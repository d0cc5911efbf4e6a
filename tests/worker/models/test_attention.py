"""The attention over a prefix gives the numbers and the gradients of the plain one."""

import pytest
import torch
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from tests.families import CONFIGS, tiny_model
from worker.models.attention import NAME, prefix_attention
from worker.models.twin import twin_of


class _Grouped(nn.Module):
    """What sdpa_attention_forward asks of a module: how many query heads a key head serves."""

    is_causal = True

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.num_key_value_groups = groups


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize("before", [0, 5])
def test_equals_the_fused_attention(heads: int, groups: int, before: int) -> None:
    draw = torch.Generator().manual_seed(0)
    new, size = 3, 8
    query = torch.randn(2, heads, new, size, generator=draw, dtype=torch.float64).requires_grad_()
    key, value = (torch.randn(2, groups, before + new, size, generator=draw, dtype=torch.float64) for _ in range(2))
    key.requires_grad_()
    value.requires_grad_()
    mask = torch.where(torch.rand(2, 1, new, before + new, generator=draw) < 0.3, -torch.inf, 0.0)
    mask[..., -1] = 0.0
    module = _Grouped(heads // groups)
    weights = torch.randn(2, new, heads, size, generator=draw, dtype=torch.float64)
    found, _ = prefix_attention(module, query, key, value, mask, scaling=0.3)
    expected, _ = sdpa_attention_forward(module, query, key, value, mask.double(), scaling=0.3)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    gradients = torch.autograd.grad((found * weights).sum(), [query, key, value])
    wanted = torch.autograd.grad((expected * weights).sum(), [query, key, value])
    torch.testing.assert_close(gradients[0], wanted[0], rtol=1e-4, atol=1e-6)
    for gradient, whole in zip(gradients[1:], wanted[1:], strict=True):
        torch.testing.assert_close(gradient[:, :, before:], whole[:, :, before:], rtol=1e-4, atol=1e-6)
        assert not gradient[:, :, :before].any(), "the prefix is constant"


@pytest.mark.parametrize("family", CONFIGS)
def test_a_twin_takes_it_where_it_can_and_the_original_never(family: str) -> None:
    loaded = tiny_model(family)
    before = loaded.config._attn_implementation
    twin = twin_of(loaded, 1, torch.bfloat16)
    assert loaded.config._attn_implementation == before
    if loaded.family.attention != "sdpa":
        assert twin.config._attn_implementation == before
    elif family in ("gpt2", "llama", "mistral", "qwen2", "olmo2"):
        assert twin.config._attn_implementation == NAME
