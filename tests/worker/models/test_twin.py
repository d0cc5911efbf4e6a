"""A twin computes in another dtype what the view in force sees, and shares what it need not convert."""

from typing import Any

import pytest
import torch
from torch import Tensor

from service.contracts.edits import Fact
from tests.driving import context_of, finish
from tests.families import CONFIGS, LAYERS, tiny_model
from tests.worker.editing.kit import Found
from tests.worker.engine.kit import random_delta
from worker.editing.batches import Optimised, optimise_all
from worker.editing.hparams import ValueHparams
from worker.engine.resident import Resident
from worker.engine.state import State
from worker.models.loaded import LoadedModel
from worker.models.positions import target_row
from worker.models.suffix import SuffixPass
from worker.models.twin import twin_of

FACT = Fact(prompt="Yes, Lionel Messi plays", subject="Lionel Messi", target_new="basketball")
PREFIXES = ("", "The city. ")
ABOVE = 1


def _storage(model: Any) -> dict[str, int]:
    return {name: tensor.data_ptr() for name, tensor in [*model.named_parameters(), *model.named_buffers()]}


def _of_layers(loaded: LoadedModel, layers: range) -> set[str]:
    prefixes = tuple(loaded.family.layer.format(layer) + "." for layer in layers)
    return {name for name, _ in loaded.model.named_parameters() if name.startswith(prefixes)}


@pytest.mark.parametrize("family", CONFIGS)
def test_what_does_not_run_is_shared_and_the_rest_converted(family: str) -> None:
    loaded = tiny_model(family)
    found = Found.of(loaded)
    twin = twin_of(loaded, ABOVE, torch.bfloat16)
    first, second = _storage(loaded.model), _storage(twin.model)
    assert first.keys() == second.keys()
    parameters = dict(twin.model.named_parameters())
    below, above = _of_layers(loaded, range(ABOVE + 1)), _of_layers(loaded, range(ABOVE + 1, LAYERS))
    buffers = {name for name, _ in loaded.model.named_buffers()}
    assert all(first[name] == second[name] for name in below | buffers)
    assert all(parameters[name].dtype is torch.float32 for name in below)
    assert all(parameters[name].dtype is torch.bfloat16 for name in above)
    assert not any(first[name] == second[name] for name in above)
    assert not any(parameter.requires_grad for parameter in parameters.values())
    assert {twin.mlp_out(layer).weight.dtype for layer in range(ABOVE + 1, LAYERS)} == {torch.bfloat16}
    assert twin.model.get_submodule(loaded.family.head).weight.dtype is torch.bfloat16
    assert not twin.model.training
    assert found.is_in(loaded)


@pytest.mark.parametrize("family", CONFIGS)
def test_tied_embeddings_stay_tied_and_others_stay_apart(family: str) -> None:
    loaded = tiny_model(family)
    twin = twin_of(loaded, ABOVE, torch.bfloat16)

    def pair(one: LoadedModel) -> tuple[Tensor, Tensor]:
        return one.model.get_input_embeddings().weight, one.model.get_submodule(one.family.head).weight

    embeddings, head = pair(loaded)
    copied, copied_head = pair(twin)
    assert (copied is copied_head) == (embeddings is head)
    if embeddings is not head:
        assert copied is embeddings


def test_both_kinds_are_among_the_families() -> None:
    tied = {tiny_model(family).config.tie_word_embeddings for family in CONFIGS}
    assert tied == {True, False}


@pytest.mark.parametrize("family", CONFIGS)
def test_it_says_nearly_what_the_model_says(family: str) -> None:
    loaded = tiny_model(family)
    twin = twin_of(loaded, ABOVE, torch.bfloat16)
    rows = [target_row(loaded.tokenizer, FACT.prompt, FACT.target_new, FACT.subject, prefix) for prefix in PREFIXES]
    delta = torch.randn(32, generator=torch.Generator().manual_seed(0))
    said = []
    for one in (None, twin):
        suffix = SuffixPass(loaded, rows, ABOVE, twin=one)
        with torch.no_grad():
            said.append((one or loaded).logits(suffix.read(suffix.hidden(delta, at_mlp=False))).float())
    exact, coarse = said
    assert not torch.equal(exact, coarse)
    assert float((exact - coarse).norm() / exact.norm()) < 0.1


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("installed", [True, False])
def test_it_has_the_weights_of_the_view_in_force(family: str, installed: bool) -> None:
    loaded = tiny_model(family)
    resident = Resident(loaded)
    head, viewed = (State(resident, {}).plus(random_delta(loaded, 1, 2, 3, seed=seed)) for seed in (0, 1))
    if installed:
        resident.install(1, head.weights)
    found = Found.of(loaded)
    with resident.view([viewed.weights]):
        twin = twin_of(loaded, ABOVE, torch.bfloat16)
    assert found.is_in(loaded)
    for layer in (2, 3):
        assert torch.equal(twin.mlp_out(layer).weight, viewed.weights[resident.name_of(layer)].bfloat16())
    assert not any("forward" in module.__dict__ for module in twin.model.modules())
    outside = twin_of(loaded, ABOVE, torch.bfloat16)
    base = loaded.mlp_out(2).weight
    assert torch.equal(outside.mlp_out(2).weight, base.bfloat16())
    assert not torch.equal(outside.mlp_out(2).weight, twin.mlp_out(2).weight)


def test_a_view_that_differs_by_row_is_refused() -> None:
    loaded = tiny_model("llama")
    resident = Resident(loaded)
    weights = State(resident, {}).plus(random_delta(loaded, 2)).weights
    with resident.view([weights, {}]), pytest.raises(ValueError, match="different weights"):
        twin_of(loaded, ABOVE, torch.bfloat16)


@pytest.mark.parametrize(("above", "dtype"), [(ABOVE, None), (ABOVE, torch.float32), (LAYERS - 1, torch.bfloat16)])
def test_where_there_is_nothing_to_convert_it_is_the_model_itself(above: int, dtype: torch.dtype | None) -> None:
    loaded = tiny_model("llama")
    assert twin_of(loaded, above, dtype) is loaded


@pytest.mark.parametrize("at_mlp", [True, False])
@pytest.mark.parametrize("family", CONFIGS)
def test_values_found_in_bfloat16_are_nearly_those_of_float32(family: str, at_mlp: bool) -> None:
    """The target becomes likelier by them in the float32 model, and nearly as much."""
    loaded = tiny_model(family)
    found = Found.of(loaded)
    hparams = ValueHparams(
        layers=(ABOVE,),
        v_num_grad_steps=6,
        v_lr=0.3,
        v_loss_layer=LAYERS - 1,
        v_weight_decay=1e-3,
        clamp_norm_factor=4,
        kl_factor=0.0625,
    )
    row = target_row(loaded.tokenizer, FACT.prompt, FACT.target_new, FACT.subject)

    def optimised(dtype: torch.dtype | None) -> Optimised:
        context = context_of(loaded, compute_dtype=dtype)
        (one,) = finish(optimise_all(context, [FACT], PREFIXES, ABOVE, hparams, at_mlp=at_mlp))
        return one

    @torch.no_grad()
    def nll(delta: Tensor) -> float:
        suffix = SuffixPass(loaded, [row], ABOVE)
        logits = loaded.logits(suffix.read(suffix.hidden(delta, at_mlp=at_mlp)))
        return float(torch.nn.functional.cross_entropy(logits, torch.tensor(row.targets)))

    exact, coarse = optimised(None), optimised(torch.bfloat16)
    assert found.is_in(loaded)
    assert torch.equal(exact.initial, coarse.initial)
    assert torch.equal(exact.keys, coarse.keys)
    assert coarse.delta.dtype is torch.float32
    assert not torch.equal(exact.delta, coarse.delta)
    before, best, near = (nll(delta) for delta in (torch.zeros(32), exact.delta, coarse.delta))
    assert best < before - 0.03
    assert before - near > 0.8 * (before - best)
