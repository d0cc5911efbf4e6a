"""What is lacking after the last layer is written layer by layer, and is there in the end."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.driving import finish
from tests.families import CONFIGS, tiny_model
from tests.worker.editing.kit import FACTS, HPARAMS, context, covariances, low_rank
from worker.editing.batches import optimise_all
from worker.editing.delta import WeightDelta
from worker.editing.keys import SubjectRows
from worker.editing.method import discover
from worker.editing.spread import spread
from worker.engine.resident import Resident
from worker.engine.state import State
from worker.models.families import FAMILIES
from worker.models.loaded import LoadedModel

BARE: dict[str, Any] = {"context_templates": [""], "context_template_length_params": []}
"""With no template but the prompt itself, a key is the very vector that the layer meets."""

STRAIGHT = [name for name in CONFIGS if FAMILIES[CONFIGS[name].get("model_type", name)].post_mlp is None]
"""Families whose MLP's output joins the residual stream as it is."""


def _computed(loaded: LoadedModel, name: str, facts: int, **changes: Any) -> tuple[WeightDelta, Any]:
    method = discover()[name]
    hparams = method.hparams.model_validate({**HPARAMS[name], **BARE, **changes})
    made = context(loaded)
    return finish(method.compute(made, FACTS[:facts], hparams)), hparams


def _said(loaded: LoadedModel, delta: WeightDelta, layer: int, facts: int) -> Tensor:
    """The residual stream [h, N] after a layer at the subjects, once the delta is in force."""
    resident = Resident(loaded)
    with resident.view([State(resident, {}).plus(delta).weights]):
        return finish(SubjectRows(loaded, FACTS[:facts], ("",)).keys_and_values(layer, layer, at_mlp=False))[1]


def _wanted(loaded: LoadedModel, hparams: Any, layer: int, facts: int) -> Tensor:
    made = context(loaded)
    found = finish(optimise_all(made, FACTS[:facts], ("",), layer, hparams, at_mlp=False))
    return torch.stack([one.target for one in found], dim=1)


def _missed(found: Tensor, wanted: Tensor, before: Tensor) -> float:
    """What is still lacking, as a share of what was lacking."""
    return float((found - wanted).norm() / (before - wanted).norm())


WEIGHTLESS = {"memit": {"mom2_update_weight": 1e-8}, "alphaedit": {"L2": 1e-8}, "emmet": {"emmet_lambda": 1e-6}}


@pytest.mark.parametrize("facts", [1, 3])
@pytest.mark.parametrize("name", WEIGHTLESS)
@pytest.mark.parametrize("family", STRAIGHT)
def test_without_weight_the_stream_says_the_values(family: str, name: str, facts: int) -> None:
    """As lambda goes to 0, (W + dW) K says what is wanted; the last layer takes all that is still lacking."""
    loaded = tiny_model(family)
    delta, hparams = _computed(loaded, name, facts, **WEIGHTLESS[name])
    last = max(hparams.layers)
    before = _said(loaded, WeightDelta({}), last, facts)
    wanted = _wanted(loaded, hparams, last, facts)
    assert _missed(_said(loaded, delta, last, facts), wanted, before) < 1e-2


def test_weight_holds_back() -> None:
    loaded = tiny_model("gpt2")
    before, missed = _said(loaded, WeightDelta({}), 2, 3), []
    for weight in (1e-6, 1.0, 1e3):
        delta, hparams = _computed(loaded, "memit", 3, mom2_update_weight=weight)
        missed.append(_missed(_said(loaded, delta, 2, 3), _wanted(loaded, hparams, 2, 3), before))
    assert missed == sorted(missed)
    assert missed[0] < 0.01
    assert missed[-1] > 0.9


def test_one_fact_at_one_layer_is_written_down_from_the_paper() -> None:
    """MEMIT, equation 14, with N = 1: dW = r k^T (lambda C + k k^T)^-1, by a plain d x d solve."""
    loaded = tiny_model("gpt2")
    delta, hparams = _computed(loaded, "memit", 1, layers=[1], mom2_update_weight=0.7)
    key, now = finish(SubjectRows(loaded, FACTS[:1], ("",)).keys_and_values(1, 1, at_mlp=False))
    residual = (_wanted(loaded, hparams, 1, 1) - now).double()
    matrix = 0.7 * covariances("gpt2")[1] + key.double() @ key.double().T
    expected = residual @ torch.linalg.solve(matrix, key.double()).T
    found = delta.layers[1].dense().double()
    assert float((found - expected).norm() / expected.norm()) < 1e-5
    assert torch.equal(delta.keys[1], key)


def test_layers_take_their_shares_in_turn() -> None:
    """The first of two takes half of what is lacking, and the second what is lacking then, seen under the first."""
    loaded = tiny_model("gpt2")
    delta, hparams = _computed(loaded, "memit", 3)
    wanted = _wanted(loaded, hparams, 2, 3)
    after_none = _said(loaded, WeightDelta({}), 2, 3)
    after_first = _said(loaded, WeightDelta({1: delta.layers[1]}), 2, 3)
    torch.testing.assert_close(low_rank(delta, 1).residuals, (wanted - after_none) / 2, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(low_rank(delta, 2).residuals, wanted - after_first, rtol=1e-4, atol=1e-5)
    assert float((after_first - after_none).norm()) > 0.1 * float((wanted - after_none).norm())


def test_blue_writes_the_first_and_the_last_layer_each_for_its_own_values() -> None:
    loaded = tiny_model("gpt2")
    delta, hparams = _computed(loaded, "memit-blue", 3)
    assert hparams.layers == (0, 1, 2)
    assert sorted(delta.layers) == [0, 2]
    for layer, seen in ((0, WeightDelta({})), (2, WeightDelta({0: delta.layers[0]}))):
        lacking = _wanted(loaded, hparams, layer, 3) - _said(loaded, seen, layer, 3)
        torch.testing.assert_close(low_rank(delta, layer).residuals, lacking, rtol=1e-4, atol=1e-5)


def test_emmet_is_memit_at_one_layer() -> None:
    """With lambda = w eps for several facts; a single fact has no ridge, so that the constraint holds exactly."""
    loaded = tiny_model("gpt2")
    weights = {"mom2_update_weight": 5.0, "emmet_lambda": 0.3}
    several, _ = _computed(loaded, "emmet", 3, **weights)
    memit, _ = _computed(loaded, "memit", 3, layers=[1], mom2_update_weight=1.5)
    torch.testing.assert_close(several.layers[1].dense(), memit.layers[1].dense(), rtol=1e-5, atol=1e-7)
    one, hparams = _computed(loaded, "emmet", 1, **weights)
    missed = _missed(_said(loaded, one, 1, 1), _wanted(loaded, hparams, 1, 1), _said(loaded, WeightDelta({}), 1, 1))
    assert missed < 1e-4


def test_targets_share_what_is_left() -> None:
    values = torch.zeros(4, 2)
    targets = spread([3, 4, 6], values, lambda left: 1 / left)
    assert [(target.layer, target.at, target.share) for target in targets] == [(3, 6, 1 / 3), (4, 6, 1 / 2), (6, 6, 1)]
    assert all(target.values is values for target in targets)


def test_alphaedit_keeps_what_active_edits_say() -> None:
    """Their keys are known: with them the change hardly moves what the layer says to them, without them it does."""
    loaded = tiny_model("gpt2")
    method = discover()["alphaedit"]
    hparams: Any = method.hparams.model_validate({**HPARAMS["alphaedit"], **BARE, "L2": 1e-4})
    first = finish(method.compute(context(loaded), FACTS[:2], hparams))
    free = finish(method.compute(context(loaded), FACTS[2:], hparams))
    held = finish(method.compute(context(loaded, active_keys=first.keys), FACTS[2:], hparams))
    for layer in hparams.layers:
        moved, kept = (float((one.layers[layer].dense() @ first.keys[layer]).norm()) for one in (free, held))
        assert kept < 0.05 * moved
        assert held.keys[layer].shape == (128, 1)


def test_alphaedit_changes_nothing_outside_the_null_space() -> None:
    loaded = tiny_model("llama")
    delta, hparams = _computed(loaded, "alphaedit", 3)
    for layer in hparams.layers:
        values, vectors = torch.linalg.eigh(covariances("llama")[layer])
        preserved = vectors[:, values >= hparams.nullspace_threshold]
        assert 0 < preserved.shape[1] < len(values)
        change = delta.layers[layer].dense().double()
        assert float((change @ preserved).norm()) < 1e-5 * float(change.norm())


@pytest.mark.parametrize("threshold", [1e-12, 1e12])
def test_a_null_space_without_use_warns(threshold: float) -> None:
    method = discover()["alphaedit"]
    hparams = method.hparams.model_validate({**HPARAMS["alphaedit"], "nullspace_threshold": threshold})
    steps = method.compute(context(tiny_model("gpt2")), FACTS[:1], hparams)
    warnings = [step.warning for step in steps if step.phase == "null space"]
    assert len(warnings) == 2
    assert all(warning and f"layer {layer}" in warning for layer, warning in zip((1, 2), warnings, strict=True))
