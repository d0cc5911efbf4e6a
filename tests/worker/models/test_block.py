"""A pass from one block on gives the numbers of the whole one, with deltas at its attention and its MLP."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.families import CONFIGS, LAYERS, tiny_model
from worker.models.block import BlockPass
from worker.models.loaded import LoadedModel
from worker.models.positions import Row, subject_row, target_row

PROMPT, SUBJECT, TARGET = "Yes, Lionel Messi plays", "Lionel Messi", "basketball"
PREFIXES = ("", "The city. ", "Question: What sport, in Paris? ")


def _rows(loaded: LoadedModel) -> list[Row]:
    """Rows of different lengths before and after their anchors, so that each is padded."""
    rows = [target_row(loaded.tokenizer, PROMPT, TARGET, SUBJECT, prefix) for prefix in PREFIXES]
    return [
        *rows,
        subject_row(loaded.tokenizer, f"{SUBJECT} is a", SUBJECT),
        Row(rows[2].ids[:20], anchor=0, reads=(0, 19)),
    ]


def _deltas(rows: Sequence[Row]) -> Tensor:
    return torch.randn(len(rows), 2, 32, generator=torch.Generator().manual_seed(1))


def _whole(loaded: LoadedModel, row: Row, layer: int, deltas: Tensor) -> Tensor:
    """Logits [T, vocabulary] of one unpadded row through the whole model, both deltas [2, h] added by hooks."""

    def adding(delta: Tensor) -> Any:
        def add(_: Any, __: Any, output: Tensor) -> Tensor:
            moved = output.clone()
            moved.view(len(row.ids), -1)[row.anchor] += delta
            return moved

        return add

    attention = loaded.module(loaded.family.attn_out, layer)
    handles = [
        module.register_forward_hook(adding(delta))
        for module, delta in zip((attention, loaded.mlp_out(layer)), deltas, strict=True)
    ]
    try:
        logits: Tensor = loaded.model(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0]
    finally:
        for handle in handles:
            handle.remove()
    return logits


def _read(loaded: LoadedModel, running: BlockPass, deltas: Tensor) -> Tensor:
    return loaded.logits(running.read(running.hidden(deltas)))


@pytest.mark.parametrize("layer", [0, 1, LAYERS - 1])
@pytest.mark.parametrize("family", CONFIGS)
def test_the_pass_equals_the_whole_one(family: str, layer: int) -> None:
    loaded = tiny_model(family)
    rows = _rows(loaded)
    deltas = _deltas(rows)
    running = BlockPass(loaded, rows, layer, LAYERS - 1, loaded)
    wholes = [_whole(loaded, row, layer, delta) for row, delta in zip(rows, deltas, strict=True)]
    expected = torch.cat([whole[list(row.reads)] for row, whole in zip(rows, wholes, strict=True)])
    torch.testing.assert_close(_read(loaded, running, deltas), expected, rtol=1e-4, atol=1e-5)
    for place in (0, 1):
        alone = torch.zeros_like(deltas)
        alone[:, place] = deltas[:, place]
        apart = (_read(loaded, running, alone) - expected).abs().max()
        assert apart > 1e-3, "the other delta changed nothing, so the comparison shows nothing of it"


@pytest.mark.parametrize("family", CONFIGS)
def test_rows_can_be_left_behind(family: str) -> None:
    loaded = tiny_model(family)
    rows = _rows(loaded)
    deltas = _deltas(rows)
    kept = torch.tensor([0, 2, 4])
    running = BlockPass(loaded, rows, 1, LAYERS - 1, loaded)
    running.keep(kept)
    other = BlockPass(loaded, [rows[index] for index in kept], 1, LAYERS - 1, loaded)
    torch.testing.assert_close(running.initial, other.initial, rtol=1e-4, atol=1e-5)
    expected = _read(loaded, other, deltas[kept])
    torch.testing.assert_close(_read(loaded, running, deltas[kept]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", CONFIGS)
def test_gradients_reach_both_deltas_and_nothing_else(family: str) -> None:
    loaded = tiny_model(family)
    rows = _rows(loaded)
    deltas = torch.zeros(len(rows), 2, 32, requires_grad=True)
    hooks = [len(module._forward_hooks) for module in loaded.model.modules()]
    (gradient,) = torch.autograd.grad(
        _read(loaded, BlockPass(loaded, rows, 1, LAYERS - 1, loaded), deltas).sum(), deltas
    )
    assert gradient.abs().amax(2).min() > 0
    assert all(parameter.grad is None for parameter in loaded.model.parameters())
    assert [len(module._forward_hooks) for module in loaded.model.modules()] == hooks


def test_only_where_blocks_are_sequential_does_the_mlp_see_the_attentions_delta() -> None:
    """Where they are parallel, a delta is so much residual stream, whichever of them it is added to."""
    for family, parallel in (("gptj", True), ("llama", False)):
        loaded = tiny_model(family)
        row = _rows(loaded)[0]
        delta = _deltas([row])[0, 0]
        at_attention = _whole(loaded, row, 1, torch.stack([delta, 0 * delta]))
        at_mlp = _whole(loaded, row, 1, torch.stack([0 * delta, delta]))
        assert torch.allclose(at_attention, at_mlp, rtol=1e-4, atol=1e-5) is parallel
