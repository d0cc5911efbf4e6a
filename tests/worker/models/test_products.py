"""The faster way gives the same numbers, for every family and under every view, and leaves the model as it was."""

from dataclasses import replace

import pytest
import torch

from tests.families import CONFIGS, tiny_model
from tests.worker.engine.kit import overridden, random_delta
from worker.engine.resident import Resident
from worker.engine.state import State
from worker.models import products
from worker.models.products import KINDS, FastProducts, fast_products

IDS = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5]])


@pytest.mark.parametrize("family", CONFIGS)
def test_logits_are_those_of_the_models_own_way(family: str) -> None:
    resident = Resident(tiny_model(family))
    loaded = replace(resident.loaded, products=FastProducts(resident.loaded.model))
    kinds = [type(module) for module in loaded.model.modules()]
    weights = State.fold(resident, [random_delta(loaded, 1)]).weights
    with torch.no_grad(), resident.view([{}, weights]):
        expected = loaded.model(IDS).logits
    with torch.no_grad(), loaded.reading(), resident.view([{}, weights]):
        swapped = [type(module) for module in loaded.model.modules()]
        found = loaded.model(IDS).logits
    assert torch.allclose(found, expected, atol=1e-4)
    assert not torch.allclose(found[0], found[1], atol=1e-4)
    assert [KINDS.get(kind, kind) for kind in kinds] == swapped
    assert kinds != swapped
    assert [type(module) for module in loaded.model.modules()] == kinds
    assert overridden(loaded) == []


def test_a_pass_that_fails_leaves_the_model_as_it_was() -> None:
    loaded = tiny_model("llama")
    kinds = [type(module) for module in loaded.model.modules()]
    with pytest.raises(RuntimeError), FastProducts(loaded.model).in_force():
        raise RuntimeError
    assert [type(module) for module in loaded.model.modules()] == kinds


@pytest.mark.parametrize(("seconds", "taken"), [([2.0, 1.0], True), ([1.0, 1.0], False), ([1.1, 1.0], False)])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_it_is_taken_where_it_is_faster(
    family: str, seconds: list[float], taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(seconds)
    monkeypatch.setattr(products, "LEAST_BYTES", 1)
    monkeypatch.setattr(products, "_seconds", lambda compute: (compute(), next(times))[1])
    assert (fast_products(tiny_model(family).model) is not None) == taken


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_tiny_model_is_not_timed(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_seconds", lambda _: pytest.fail("timed"))
    assert fast_products(tiny_model(family).model) is None


def test_it_is_for_float32_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "LEAST_BYTES", 1)
    assert fast_products(tiny_model("llama", torch.bfloat16).model) is None


def test_a_torch_without_it_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "LEAST_BYTES", 1)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert fast_products(tiny_model("llama").model) is None
