"""The partial forward pass gives the numbers of the whole one, for every family."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.families import CONFIGS, LAYERS, tiny_model
from worker.models.hooks import captured, replaced_forward
from worker.models.loaded import LoadedModel
from worker.models.positions import Row, subject_row, target_row
from worker.models.suffix import SuffixPass

PROMPT, SUBJECT, TARGET = "Yes, Lionel Messi plays", "Lionel Messi", "basketball"
PREFIXES = ("", "The city. ", "Question: What sport, in Paris? ")


def _rows(loaded: LoadedModel) -> list[Row]:
    """Rows of all lengths before and after their anchors: each is padded on one side at least, some on both."""
    rows = [target_row(loaded.tokenizer, PROMPT, TARGET, SUBJECT, prefix) for prefix in PREFIXES]
    rows.append(subject_row(loaded.tokenizer, f"{SUBJECT} is a", SUBJECT))
    ids = rows[2].ids
    return [*rows, Row(ids[:20], anchor=0, reads=(0, 7, 19)), Row(ids[:1], anchor=0, reads=(0,))]


def _deltas(loaded: LoadedModel, rows: list[Row]) -> Tensor:
    return torch.randn(len(rows), 32, dtype=loaded.dtype, generator=torch.Generator().manual_seed(1))


def _read(loaded: LoadedModel, suffix: SuffixPass, delta: Tensor, *, at_mlp: bool = True) -> Tensor:
    return loaded.logits(suffix.read(suffix.hidden(delta, at_mlp=at_mlp)))


def _whole(loaded: LoadedModel, row: Row, layer: int, delta: Tensor, *, at_mlp: bool) -> Tensor:
    """Logits [T, vocabulary] of one unpadded row through the whole model, delta added by a hook."""

    def add(_: Any, __: Any, output: Any) -> Any:
        hidden = (output[0] if isinstance(output, tuple) else output).clone()
        hidden.view(len(row.ids), -1)[row.anchor] += delta  # [1, T, h], or [T, h] where the MLP sees rows flattened
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    module = loaded.mlp_out(layer) if at_mlp else loaded.module(loaded.family.layer, layer)
    handle = module.register_forward_hook(add)
    try:
        logits: Tensor = loaded.model(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0]
    finally:
        handle.remove()
    return logits


@pytest.mark.parametrize("at_mlp", [True, False])
@pytest.mark.parametrize("layer", [0, 1, LAYERS - 1])
@pytest.mark.parametrize("family", CONFIGS)
def test_suffix_equals_the_whole_pass(family: str, layer: int, at_mlp: bool) -> None:
    loaded = tiny_model(family)
    rows = _rows(loaded)
    suffix = SuffixPass(loaded, rows, layer)
    deltas = _deltas(loaded, rows)
    for given in (deltas[0], deltas):
        each = given.expand(len(rows), -1)
        wholes = [_whole(loaded, row, layer, delta, at_mlp=at_mlp) for row, delta in zip(rows, each, strict=True)]
        expected = torch.cat([whole[list(row.reads)] for row, whole in zip(rows, wholes, strict=True)])
        torch.testing.assert_close(_read(loaded, suffix, given, at_mlp=at_mlp), expected, rtol=1e-4, atol=1e-5)
        still = _whole(loaded, rows[-1], layer, torch.zeros(32), at_mlp=at_mlp)
        assert (expected[-1:] - still).abs().max() > 1e-3, "delta changed nothing, so the comparison shows nothing"


@pytest.mark.parametrize("family", CONFIGS)
def test_rows_can_be_left_behind(family: str) -> None:
    loaded = tiny_model(family)
    rows = _rows(loaded)
    deltas = _deltas(loaded, rows)
    kept = torch.tensor([0, 2, 5])
    suffix = SuffixPass(loaded, rows, 1)
    suffix.keep(kept)
    expected = _read(loaded, SuffixPass(loaded, [rows[index] for index in kept], 1), deltas[kept])
    torch.testing.assert_close(_read(loaded, suffix, deltas[kept]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", CONFIGS)
def test_keys_and_values_are_those_of_the_projection(family: str) -> None:
    loaded = tiny_model(family)
    rows = _rows(loaded)
    suffix = SuffixPass(loaded, rows, 1)
    torch.testing.assert_close(loaded.mlp_out(1)(suffix.keys), suffix.values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "gptj", "gpt_neo", "opt", "falcon", "llama", "gemma2", "olmo2"])
def test_the_loss_layer_may_lie_below_the_last(family: str) -> None:
    loaded = tiny_model(family)
    rows = _rows(loaded)[:1]
    delta = torch.randn(32, generator=torch.Generator().manual_seed(2))
    suffix = SuffixPass(loaded, rows, 0, last_layer=LAYERS - 2)
    found = _read(loaded, suffix, delta)
    top = loaded.module(loaded.family.layer, LAYERS - 1)
    with captured(top) as seen:
        loaded.model(input_ids=torch.tensor([rows[0].ids]), use_cache=False)

    def passing_on(hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        return (hidden_states, None) if seen.wraps_output else hidden_states

    with replaced_forward(top, passing_on):
        expected = _whole(loaded, rows[0], 0, delta, at_mlp=True)[list(rows[0].reads)]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", CONFIGS)
def test_gradients_reach_delta_and_nothing_else(family: str) -> None:
    loaded = tiny_model(family)
    suffix = SuffixPass(loaded, _rows(loaded), 1)
    delta = torch.zeros(32, requires_grad=True)
    _read(loaded, suffix, delta).sum().backward()  # type: ignore[no-untyped-call]
    assert delta.grad is not None
    assert delta.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in loaded.model.parameters())


def test_a_subject_at_the_very_start_leaves_no_prefix() -> None:
    loaded = tiny_model("llama")
    subject = loaded.tokenizer.decode(loaded.tokenizer("The")["input_ids"][:1])
    row = target_row(loaded.tokenizer, f"{subject} city", TARGET, subject)
    assert row.anchor == 0
    delta = torch.randn(32, generator=torch.Generator().manual_seed(3))
    suffix = SuffixPass(loaded, [row], 1)
    found = _read(loaded, suffix, delta)
    expected = _whole(loaded, row, 1, delta, at_mlp=True)[list(row.reads)]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
