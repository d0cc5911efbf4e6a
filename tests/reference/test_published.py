"""The methods compute what the published implementations compute, to a relative error of 1e-6.

README.md beside this file says what the numbers are and where they are from.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.driving import context_of, finish, finish_noting
from tests.reference.golden import FAMILIES, Golden, columns, error, fingerprint, golden, model_of
from worker.editing.batches import optimise_all
from worker.editing.context import EditContext
from worker.editing.delta import LowRank, WeightDelta
from worker.editing.method import Method, discover
from worker.models.loaded import LoadedModel

TOLERANCE = 1e-6
RANK_ONE = ("rome", "r-rome", "p-rome")


def _numbers(method: str, family: str) -> Golden:
    return golden(method.replace("-", "_"), family)


def _method(name: str) -> Method:
    return discover()[name]


def _hparams(method: Method, numbers: Golden, **changes: Any) -> Any:
    return numbers.hparams(method.hparams, **changes)


def _assert_close(found: dict[str, Tensor], numbers: Golden, prefix: str) -> None:
    errors = {name: error(tensor, numbers[prefix + name]) for name, tensor in found.items()}
    assert all(one <= TOLERANCE for one in errors.values()), f"{prefix}: {errors}"


def _low_rank(delta: WeightDelta, layer: int) -> LowRank:
    change = delta.layers[layer]
    assert isinstance(change, LowRank)
    return change


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", RANK_ONE)
@pytest.mark.parametrize("variant", ["identity", "covariance"])
def test_rank_one_methods(method: str, family: str, variant: str) -> None:
    numbers = _numbers(method, family)
    hparams = _hparams(_method(method), numbers, mom2_adjustment=variant == "covariance")
    (layer,) = hparams.layers
    context = context_of(model_of(numbers), numbers.covariances)
    for index, fact in enumerate(numbers.facts):
        delta, steps = finish_noting(_method(method).compute(context, [fact], hparams))
        change, prefix = _low_rank(delta, layer), f"{variant}.{index}."
        found = {"key": delta.keys[layer][:, 0], "u": change.solver[:, 0], "right": change.residuals[:, 0]}
        _assert_close(found, numbers, prefix)
        assert error(change.dense(), torch.outer(numbers[prefix + "right"], numbers[prefix + "u"])) <= TOLERANCE
        assert sum(step.phase == "value" for step in steps) == numbers.steps(variant)[index]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", RANK_ONE)
def test_values_of_the_mlp(method: str, family: str) -> None:
    numbers = _numbers(method, family)
    hparams = _hparams(_method(method), numbers)
    context = context_of(model_of(numbers))
    found = finish(optimise_all(context, numbers.facts, numbers.prefixes, hparams.layers[0], hparams, at_mlp=True))
    for index, optimised in enumerate(found):
        _assert_close({"value": optimised.target}, numbers, f"identity.{index}.")
        if method == "rome":
            _assert_close({"key_mean": optimised.keys.mean(0)}, numbers, f"identity.{index}.")


def _values(context: EditContext, numbers: Golden, hparams: Any, facts: slice) -> Tensor:
    layer = max(hparams.layers)
    steps = optimise_all(context, numbers.facts[facts], numbers.prefixes, layer, hparams, at_mlp=False)
    return columns([optimised.target for optimised in finish(steps)])


def _assert_layers(delta: WeightDelta, numbers: Golden, prefix: str, layers: list[int]) -> None:
    assert sorted(delta.layers) == layers
    for layer in layers:
        change, name = _low_rank(delta, layer), f"{prefix}{layer}."
        found = {"keys": delta.keys[layer], "solver": change.solver, "residuals": change.residuals}
        _assert_close(found, numbers, name)
        assert error(change.dense(), numbers[name + "residuals"] @ numbers[name + "solver"].T) <= TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("method", "prefix", "facts"),
    [
        ("memit", "", slice(None)),
        ("emmet", "batch.", slice(None)),
        ("emmet", "single.", slice(1)),
    ],
)
def test_batch_methods(method: str, family: str, prefix: str, facts: slice) -> None:
    numbers = _numbers(method, family)
    hparams = _hparams(_method(method), numbers)
    context = context_of(model_of(numbers), numbers.covariances)
    assert error(_values(context, numbers, hparams, facts), numbers[prefix + "z"]) <= TOLERANCE
    delta = finish(_method(method).compute(context, numbers.facts[facts], hparams))
    _assert_layers(delta, numbers, prefix, list(hparams.layers))


def _install(loaded: LoadedModel, numbers: Golden, batch: str, layers: list[int]) -> None:
    for layer in layers:
        change = numbers[f"{batch}{layer}.delta"]
        loaded.mlp_out(layer).weight.data += change.T if loaded.family.in_out else change


@pytest.mark.parametrize("family", FAMILIES)
def test_alphaedit_batch_after_batch(family: str) -> None:
    numbers, method = _numbers("alphaedit", family), _method("alphaedit")
    hparams = _hparams(method, numbers)
    layers = list(hparams.layers)
    loaded, known = model_of(numbers), dict[int, Tensor]()
    for prefix, facts in (("batch0.", slice(0, 2)), ("batch1.", slice(2, 4))):
        context = context_of(loaded, numbers.covariances, known)
        assert error(_values(context, numbers, hparams, facts), numbers[prefix + "z"]) <= TOLERANCE
        delta = finish(method.compute(context, numbers.facts[facts], hparams))
        for layer in layers:
            _assert_close(
                {"keys": delta.keys[layer], "delta": delta.layers[layer].dense()}, numbers, f"{prefix}{layer}."
            )
        _install(loaded, numbers, prefix, layers)
        known = {layer: numbers[f"{prefix}{layer}.keys"] for layer in layers}


def test_another_model_is_noticed() -> None:
    numbers = _numbers("rome", "gpt2")
    loaded = model_of(numbers)
    loaded.mlp_out(1).weight.data[0, 0] += 1e-6
    assert fingerprint(loaded) != numbers.header["model_sha256"]
