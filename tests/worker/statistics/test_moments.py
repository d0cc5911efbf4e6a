"""The sums of k k^T are what a plain sum over the keys gives, for all layers in one pass."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tests.driving import finish, finish_noting
from tests.families import CONFIGS, tiny_model
from tests.worker.engine.kit import bits, same_bits
from worker.models.loaded import LoadedModel
from worker.statistics.moments import Moment, accumulate, key_size


class Text:
    """Random batches, which notes from where it was read."""

    def __init__(self, loaded: LoadedModel, count: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.batches = [torch.randint(2, loaded.config.vocab_size, (3, 10), generator=generator) for _ in range(count)]
        self.read_from: list[int] = []

    def __call__(self, first: int) -> Iterator[Tensor | None]:
        self.read_from.append(first)
        yield None
        yield from self.batches[first:]


def _nothing(loaded: LoadedModel, *layers: int) -> dict[int, Moment]:
    size = key_size(loaded, 0)
    return {layer: Moment(torch.zeros(size, size, dtype=torch.float64)) for layer in layers}


def _plain_keys(loaded: LoadedModel, ids: Tensor, layer: int) -> Tensor:
    seen: list[Tensor] = []
    hook = loaded.mlp_out(layer).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    with torch.no_grad():
        loaded.model(input_ids=ids)
    hook.remove()
    return seen[0].flatten(0, -2).double()


@pytest.mark.parametrize("tokens", [1, 45, 90])
@pytest.mark.parametrize("family", CONFIGS)
def test_every_layers_sum_is_the_plain_one(family: str, tokens: int) -> None:
    loaded = tiny_model(family)
    before = bits(loaded)
    text, moments = Text(loaded, 3), _nothing(loaded, 2, 0)
    _, steps = finish_noting(accumulate(loaded, moments, text, tokens))
    for layer, moment in moments.items():
        keys = torch.cat([_plain_keys(loaded, ids, layer) for ids in text.batches])[:tokens]
        torch.testing.assert_close(moment.total, keys.T @ keys, rtol=1e-4, atol=1e-5)
        assert moment.count == tokens
    assert steps[0].step == 0
    assert steps[-1].step == steps[-1].steps == tokens
    assert same_bits(before, bits(loaded))
    assert not any(module._forward_hooks for module in loaded.model.modules())


def test_nothing_above_the_highest_layer_runs() -> None:
    loaded = tiny_model("llama")
    ran: list[int] = []
    for layer in range(loaded.layers):
        loaded.mlp_out(layer).register_forward_pre_hook(lambda *_, layer=layer: ran.append(layer))
    finish(accumulate(loaded, _nothing(loaded, 0, 2), Text(loaded, 2), 60))
    assert ran == [0, 1, 2] * 2, "each batch once, up to layer 2"


def test_a_layer_that_is_ahead_counts_no_batch_twice() -> None:
    """And every sum is the same, to the last bit, as that of one uninterrupted pass."""
    loaded = tiny_model("llama")
    text, whole = Text(loaded, 4), _nothing(loaded, 1, 2, 3)
    finish(accumulate(loaded, whole, text, 110))
    parts = _nothing(loaded, 1, 2, 3)
    for layers, batches in (((1,), 3), ((2,), 1)):
        steps = accumulate(loaded, {layer: parts[layer] for layer in layers}, text, 110)
        for _ in range(1 + batches):
            next(steps)
        steps.close()
    assert [parts[layer].batches for layer in (1, 2, 3)] == [3, 1, 0]
    finish(accumulate(loaded, {layer: parts[layer] for layer in (1, 2)}, text, 110))
    assert text.read_from[-1] == 1, "what no layer needs is not read again"
    finish(accumulate(loaded, parts, text, 110))
    for layer, moment in whole.items():
        assert torch.equal(parts[layer].total, moment.total)
        assert (parts[layer].count, parts[layer].batches) == (110, 4)


def test_a_stopped_pass_leaves_no_hook() -> None:
    loaded = tiny_model("llama")
    steps = accumulate(loaded, _nothing(loaded, 1), Text(loaded, 3), 90)
    next(steps)
    next(steps)
    steps.close()
    assert not any(module._forward_hooks for module in loaded.model.modules())


def test_sums_over_batches_are_in_float64() -> None:
    """A float32 sum would lose what is small beside what it has."""
    moment = Moment(torch.full((2, 2), 2.0**30, dtype=torch.float64))
    for _ in range(100):
        moment.add(torch.ones(1, 2), 1000)
    assert torch.equal(moment.total, torch.full((2, 2), 2.0**30 + 100, dtype=torch.float64))


def test_keys_in_half_precision_are_multiplied_in_float32() -> None:
    moment = Moment(torch.zeros(1, 1, dtype=torch.float64))
    moment.add(torch.full((300, 1), 1.0078125, dtype=torch.bfloat16), 1000)
    assert moment.total.item() == pytest.approx(300 * 1.0078125**2, rel=1e-6)


@pytest.mark.parametrize("family", CONFIGS)
def test_the_size_of_a_key(family: str) -> None:
    loaded = tiny_model(family)
    assert key_size(loaded, 1) == _plain_keys(loaded, torch.tensor([[3, 4]]), 1).shape[1]
