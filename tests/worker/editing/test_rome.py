"""ROME computes what the paper's loop computes, for any subject; test_contract holds it to a method's promises."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from benchmarks.plain import plain_rome
from service.contracts.edits import Fact
from tests.driving import context_of, finish, finish_noting
from tests.families import CONFIGS, LAYERS, tiny_model
from tests.worker.editing.kit import low_rank
from worker.editing.methods.rome import compute
from worker.editing.rank_one import RankOneHparams
from worker.engine.resident import Resident
from worker.engine.state import State
from worker.errors import EditError
from worker.evaluation.metrics import measure

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


def test_every_step_of_the_value_optimisation_is_told() -> None:
    delta, steps = finish_noting(compute(context_of(tiny_model("gptj")), [FACT], _hparams()))
    assert set(delta.layers) == {1}
    values = [step for step in steps if step.phase == "value"]
    assert [step.step for step in values] == list(range(1, len(values) + 1))
    assert all(step.steps == 12 and step.loss is not None for step in values)


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
    delta = low_rank(finish(compute(context_of(loaded), [FACT], hparams)), 1)
    plain = plain_rome(loaded, FACT, [""], hparams)
    key = plain.left * (1 / delta.solver[:, 0].norm())
    assert torch.allclose(delta.dense() @ key, plain.right * torch.dot(key, plain.left), rtol=1e-3, atol=1e-4)


def test_covariance_turns_the_direction() -> None:
    loaded = tiny_model("llama")
    root = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    covariance = root @ root.T / 64 + 0.1 * torch.eye(64)
    without = low_rank(finish(compute(context_of(loaded), [FACT], _hparams())), 1)
    hparams = _hparams(mom2_adjustment=True)
    adjusted = low_rank(finish(compute(context_of(loaded, {1: covariance}), [FACT], hparams)), 1)
    key = without.solver[:, 0]
    expected = torch.linalg.solve(covariance.double(), key.double())
    expected = (expected / expected.norm()).float()
    assert torch.allclose(adjusted.solver[:, 0], expected, rtol=1e-4, atol=1e-6)


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
    delta = low_rank(finish(compute(context_of(tiny_model("phi3")), [FACT], _hparams())), 1)
    assert delta.residuals.shape == (32, 1)
    assert delta.solver.shape == (64, 1)
    assert delta.solver.device.type == "cpu"
