"""ROME computes what the paper's loop computes, and keeps the promises that every method makes."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from benchmarks.plain import plain_rome
from service.contracts.edits import Fact
from tests.driving import context_of, finish, finish_noting
from tests.families import CONFIGS, LAYERS, tiny_model
from worker.editing.delta import WeightDelta
from worker.editing.methods.rome import compute
from worker.editing.rank_one import RankOneHparams
from worker.engine.resident import Resident
from worker.engine.state import State
from worker.errors import EditError
from worker.evaluation.metrics import measure
from worker.models.loaded import LoadedModel

FACT = Fact(prompt="Yes, Lionel Messi plays", subject="Lionel Messi", target_new="basketball", target_true="football")
PREFIXES = ("", "The city. ", "Question: What sport, in Paris? ")
VALUES: dict[str, Any] = {
    "layers": [1],
    "v_num_grad_steps": 12,
    "v_lr": 0.5,
    "v_loss_layer": LAYERS - 1,
    "v_weight_decay": 1e-3,
    "clamp_norm_factor": 4,
    "kl_factor": 0.0625,
    "context_templates": PREFIXES,
}


def _hparams(**changes: Any) -> RankOneHparams:
    return RankOneHparams.model_validate({**VALUES, **changes})


def _bits(loaded: LoadedModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}


def _assert_untouched(loaded: LoadedModel, before: dict[str, Tensor]) -> None:
    after = loaded.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in loaded.model.parameters())
    for module in loaded.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert "forward" not in module.__dict__


@pytest.mark.parametrize("family", CONFIGS)
def test_equals_the_papers_loop(family: str) -> None:
    # transformers' gemma2 gives NaN in float64
    loaded = tiny_model(family, torch.float32 if family == "gemma2" else torch.float64)
    hparams = _hparams()
    delta = finish(compute(context_of(loaded), [FACT], hparams)).layers[1]
    plain = plain_rome(loaded, FACT, PREFIXES, hparams)
    expected = torch.outer(plain.right, plain.left).float()
    assert expected.norm() > 0.1
    assert (delta.dense() - expected).norm() / expected.norm() < 1e-4


@pytest.mark.parametrize("family", CONFIGS)
def test_compute_leaves_the_model_as_it_was(family: str) -> None:
    loaded = tiny_model(family)
    before = _bits(loaded)
    delta, steps = finish_noting(compute(context_of(loaded), [FACT], _hparams()))
    _assert_untouched(loaded, before)
    assert set(delta.layers) == {1}
    assert delta.is_finite()
    values = [step for step in steps if step.phase == "value"]
    assert [step.step for step in values] == list(range(1, len(values) + 1))
    assert all(step.steps == 12 and step.loss is not None for step in values)


@pytest.mark.parametrize("stop_after", [1, 2, 5])
def test_an_abandoned_computation_leaves_nothing(stop_after: int) -> None:
    loaded = tiny_model("llama")
    before = _bits(loaded)
    steps = compute(context_of(loaded), [FACT], _hparams())
    for _ in range(stop_after):
        next(steps)
    steps.close()
    _assert_untouched(loaded, before)


def test_a_failing_computation_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny_model("llama")
    before = _bits(loaded)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(loaded.model.model.norm, "forward", fail)
    with pytest.raises(RuntimeError, match="out of luck"):
        finish(compute(context_of(loaded), [FACT], _hparams()))
    monkeypatch.undo()
    _assert_untouched(loaded, before)


@pytest.mark.parametrize("family", CONFIGS)
def test_the_target_is_likelier_after(family: str) -> None:
    loaded = tiny_model(family)
    resident = Resident(loaded)
    weights = State.fold(resident, [finish(compute(context_of(loaded), [FACT], _hparams()))]).weights
    assert set(weights) == {resident.name_of(1)}
    (metrics,) = finish(measure(loaded, [FACT], lambda rows: resident.view([{}] * rows + [weights] * rows)))
    assert metrics.after.rewrite.target_new.nll < metrics.before.rewrite.target_new.nll - 0.1


def test_the_new_weights_say_the_value_at_the_key() -> None:
    """(W + dW) k = v*: with one template the optimised value comes out exactly (ROME, equation 2)."""
    loaded = tiny_model("gpt2")
    hparams = _hparams(context_templates=[""])
    delta = finish(compute(context_of(loaded), [FACT], hparams)).layers[1]
    plain = plain_rome(loaded, FACT, [""], hparams)
    key = plain.left * (1 / delta.solver[:, 0].norm())
    assert torch.allclose(delta.dense() @ key, plain.right * torch.dot(key, plain.left), rtol=1e-3, atol=1e-4)


def test_covariance_turns_the_direction() -> None:
    loaded = tiny_model("llama")
    root = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    covariance = root @ root.T / 64 + 0.1 * torch.eye(64)
    without = finish(compute(context_of(loaded), [FACT], _hparams())).layers[1]
    hparams = _hparams(mom2_adjustment=True)
    adjusted = finish(compute(context_of(loaded, {1: covariance}), [FACT], hparams)).layers[1]
    key = without.solver[:, 0]
    expected = torch.linalg.solve(covariance.double(), key.double())
    expected = (expected / expected.norm()).float()
    assert torch.allclose(adjusted.solver[:, 0], expected, rtol=1e-4, atol=1e-6)


def test_same_inputs_same_delta() -> None:
    first, second = (finish(compute(context_of(tiny_model("qwen2")), [FACT], _hparams())).layers[1] for _ in range(2))
    assert torch.equal(first.residuals, second.residuals)
    assert torch.equal(first.solver, second.solver)


@pytest.mark.parametrize(
    "wrong",
    [
        {"v_lrr": 1},
        {"v_lr": "fast"},
        {"v_lr": float("nan")},
        {"layers": []},
        {"layers": [1, 2]},
        {"fact_token": "last"},
    ],
)
def test_wrong_hyperparameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _hparams(**wrong)


def test_a_prompt_beyond_the_context_is_refused() -> None:
    fact = FACT.model_copy(update={"prompt": "city " * 150 + FACT.prompt})
    with pytest.raises(EditError, match="prompt"):
        finish(compute(context_of(tiny_model("gpt2")), [fact], _hparams()))


@pytest.mark.parametrize(
    ("prompt", "subject"),
    [
        ("Messi plays", "Messi"),
        ("A man, Messi", "Messi"),
        ("Messi is Messi, and Messi plays", "Messi"),
        ("The city of {Paris} is in {}", "{Paris}"),
        ("Is it (St. Mary's, no. 3)?", "St. Mary's, no. 3"),
        ("Столица России —", "России"),
        ("日本の首都は", "日本"),
        ("The emoji 👩‍🚀 means", "👩‍🚀"),
    ],
)
def test_any_subject_can_be_edited(prompt: str, subject: str) -> None:
    fact = Fact(prompt=prompt, subject=subject, target_new="Rome")
    loaded = tiny_model("llama")
    resident = Resident(loaded)
    weights = State.fold(resident, [finish(compute(context_of(loaded), [fact], _hparams()))]).weights
    (metrics,) = finish(measure(loaded, [fact], lambda rows: resident.view([{}] * rows + [weights] * rows)))
    assert metrics.after.rewrite.target_new.nll < metrics.before.rewrite.target_new.nll


@pytest.fixture
def no_stray_threads() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.mark.usefixtures("no_stray_threads")
def test_delta_is_low_rank_and_on_the_cpu() -> None:
    delta: WeightDelta = finish(compute(context_of(tiny_model("phi3")), [FACT], _hparams()))
    assert delta.layers[1].residuals.shape == (32, 1)
    assert delta.layers[1].solver.shape == (64, 1)
    assert delta.layers[1].solver.device.type == "cpu"
