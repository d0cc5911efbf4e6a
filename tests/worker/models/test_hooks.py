"""Temporary changes to a forward pass leave the module as it was found, whatever happens."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from worker.models.hooks import captured, replaced_forward


class Pair(nn.Module):
    """Returns a tuple, and takes its input by name."""

    def forward(self, *, hidden_states: Tensor) -> tuple[Tensor, None]:
        return hidden_states * 2, None


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.pair = Pair()
        self.ran_to_the_end = False

    def forward(self, inputs: Tensor) -> Tensor:
        hidden, _ = self.pair(hidden_states=self.first(inputs))
        self.ran_to_the_end = True
        result: Tensor = hidden
        return result


def _clean(model: nn.Module) -> bool:
    return not any(module._forward_hooks or "forward" in module.__dict__ for module in model.modules())


def test_what_goes_through_is_captured() -> None:
    model, inputs = Model(), torch.randn(2, 3)
    with captured(model.first) as linear, captured(model.pair) as pair:
        output = model(inputs)
    assert linear.input is inputs
    assert (linear.wraps_output, pair.wraps_output) == (False, True)
    assert torch.equal(pair.input, linear.output)
    assert torch.equal(pair.output, output)
    assert _clean(model)


def test_what_is_captured_stays_as_it_was() -> None:
    """What follows in the model may add to an output in place."""
    model, inputs = Model(), torch.randn(2, 3)
    with captured(model.first) as seen:
        output = model.first(inputs)
    before = output.clone()
    output += 1
    assert torch.equal(seen.output, before)


def test_a_pass_can_end_where_enough_is_known() -> None:
    model = Model()
    with captured(model.first, stop=True) as seen:
        model(torch.randn(2, 3))
    assert seen.output.shape == (2, 4)
    assert not model.ran_to_the_end
    assert _clean(model)


def test_an_error_is_not_swallowed() -> None:
    model = Model()
    with pytest.raises(RuntimeError, match="shapes"), captured(model.first, stop=True):
        model(torch.randn(2, 7))
    assert _clean(model)


def test_a_forward_is_replaced_for_a_while() -> None:
    model, inputs = Model(), torch.randn(2, 3)
    before = model.first(inputs)

    def nested(_: Any) -> str:
        return "inner"

    with replaced_forward(model.first, lambda _: "outer"):
        assert model.first(inputs) == "outer"
        with replaced_forward(model.first, nested):
            assert model.first(inputs) == "inner"
        assert model.first(inputs) == "outer"
    assert torch.equal(model.first(inputs), before)
    assert _clean(model)


def test_a_replacement_goes_with_an_error() -> None:
    model = Model()

    def fail(_: Any) -> None:
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"), replaced_forward(model.first, fail):
        model(torch.randn(2, 3))
    assert _clean(model)
