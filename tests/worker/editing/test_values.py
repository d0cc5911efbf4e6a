"""The value optimisation finds what it is asked for, within its ball, and stops when it has it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.driving import finish, finish_noting
from tests.families import LAYERS, tiny_model
from worker.editing.rank_one import RankOneHparams
from worker.editing.values import CONVERGED, Targets, optimise
from worker.models.positions import subject_row, target_row
from worker.models.suffix import SuffixPass

PROMPT, SUBJECT = "Yes, Lionel Messi plays", "Lionel Messi"
VALUES: dict[str, Any] = {
    "layers": [1],
    "v_num_grad_steps": 20,
    "v_lr": 0.5,
    "v_loss_layer": LAYERS - 1,
    "v_weight_decay": 1e-3,
    "clamp_norm_factor": 4,
    "kl_factor": 0.0625,
}


def _hparams(**changes: Any) -> RankOneHparams:
    return RankOneHparams.model_validate({**VALUES, **changes})


@pytest.fixture(scope="module")
def suffix_and_targets() -> tuple[SuffixPass, Targets]:
    loaded = tiny_model("llama")
    loaded.model.lm_head.weight.data *= 8  # so that it can be sure of what it says
    rows = [target_row(loaded.tokenizer, PROMPT, "football", SUBJECT, prefix) for prefix in ("", "The city. ")]
    kl_row = subject_row(loaded.tokenizer, f"{SUBJECT} is a", SUBJECT)
    return SuffixPass(loaded, [*rows, kl_row], 1), Targets(
        token_ids=torch.tensor([token for row in rows for token in row.targets]),
        row_of=torch.tensor([index for index, row in enumerate(rows) for _ in row.targets]),
        lengths=torch.tensor([float(len(row.targets)) for row in rows]),
    )


Given = tuple[SuffixPass, Targets]


def _nll(given: Given, delta: Tensor) -> float:
    suffix, targets = given
    with torch.no_grad():
        logits = suffix.read(suffix.hidden(delta, at_mlp=True))
    return float(torch.nn.functional.cross_entropy(logits, targets.token_ids))


def test_the_target_becomes_likely(suffix_and_targets: Given) -> None:
    suffix, targets = suffix_and_targets
    delta, steps = finish_noting(optimise(suffix, targets, suffix.values[0], _hparams(), at_mlp=True))
    assert _nll(suffix_and_targets, delta) < _nll(suffix_and_targets, torch.zeros_like(delta)) - 1
    assert steps[0].loss == pytest.approx(_nll(suffix_and_targets, torch.zeros_like(delta)), rel=1e-4)
    losses = [step.loss for step in steps if step.loss is not None]
    assert len(losses) == len(steps)
    assert losses[-1] < losses[0]
    assert all(step.target_probability is not None and 0 < step.target_probability < 1 for step in steps)


@pytest.mark.parametrize("factor", [0.01, 0.3])
def test_delta_stays_in_its_ball(suffix_and_targets: Given, factor: float) -> None:
    suffix, targets = suffix_and_targets
    hparams = _hparams(clamp_norm_factor=factor, v_lr=5.0)
    delta = finish(optimise(suffix, targets, suffix.values[0], hparams, at_mlp=True))
    limit = factor * float(suffix.values[0].norm())
    assert 0.5 * limit < float(delta.norm()) <= limit * (1 + 1e-5)


def test_one_step_only_measures(suffix_and_targets: Given) -> None:
    """As in the published code, the last step computes a loss and moves nothing."""
    suffix, targets = suffix_and_targets
    delta, steps = finish_noting(optimise(suffix, targets, suffix.values[0], _hparams(v_num_grad_steps=1), at_mlp=True))
    assert len(steps) == 1
    assert torch.equal(delta, torch.zeros_like(delta))


def test_it_stops_when_the_loss_is_small(suffix_and_targets: Given) -> None:
    suffix, targets = suffix_and_targets
    with torch.no_grad():
        somewhere = torch.randn(32, generator=torch.Generator().manual_seed(0)) * 10
        reachable = suffix.read(suffix.hidden(somewhere, at_mlp=True)).argmax(-1)
    hparams = _hparams(v_num_grad_steps=300, kl_factor=0, v_weight_decay=0, clamp_norm_factor=50)
    easy = replace(targets, token_ids=reachable)
    _, steps = finish_noting(optimise(suffix, easy, suffix.values[0], hparams, at_mlp=True))
    losses = [step.loss for step in steps if step.loss is not None]
    assert 1 < len(losses) < 300
    assert losses[-1] < CONVERGED <= min(losses[:-1])


def test_what_weighs_more_moves_less(suffix_and_targets: Given) -> None:
    """Weight decay pulls delta in, and the KL term keeps what the model says of the subject."""
    suffix, targets = suffix_and_targets

    def said(delta: Tensor) -> Tensor:
        with torch.no_grad():
            hidden = suffix.hidden(delta, at_mlp=True)
            return suffix.read_anchors(hidden, slice(2, None)).log_softmax(-1)

    def run(**changes: Any) -> Tensor:
        return finish(optimise(suffix, targets, suffix.values[0], _hparams(**changes), at_mlp=True))

    assert float(run(v_weight_decay=50.0).norm()) < float(run().norm())
    before = said(torch.zeros(32))
    drift = [
        float(torch.nn.functional.kl_div(before, said(run(kl_factor=factor)), log_target=True, reduction="batchmean"))
        for factor in (0.0, 20.0)
    ]
    assert drift[1] < drift[0]


def test_a_target_of_several_tokens_counts_as_one_row(suffix_and_targets: Given) -> None:
    """The loss is the mean over rows of each row's mean, so a longer row weighs no more."""
    suffix, targets = suffix_and_targets
    loaded = tiny_model("llama")
    rows = [target_row(loaded.tokenizer, PROMPT, target, SUBJECT) for target in ("basketball and more", "football")]
    kl_row = subject_row(loaded.tokenizer, f"{SUBJECT} is a", SUBJECT)
    mixed = SuffixPass(loaded, [*rows, kl_row], 1)
    given = Targets(
        token_ids=torch.tensor([token for row in rows for token in row.targets]),
        row_of=torch.tensor([index for index, row in enumerate(rows) for _ in row.targets]),
        lengths=torch.tensor([float(len(row.targets)) for row in rows]),
    )
    assert len(rows[0].targets) > len(rows[1].targets)
    first = next(optimise(mixed, given, mixed.values[0], _hparams(), at_mlp=True))
    with torch.no_grad():
        nll = -mixed.read(mixed.hidden(torch.zeros(32), at_mlp=True)).log_softmax(-1)
    picked = nll.gather(1, given.token_ids[:, None])[:, 0]
    cut = len(rows[0].targets)
    expected = (float(picked[:cut].mean()) + float(picked[cut:].mean())) / 2
    assert first.loss == pytest.approx(expected, rel=1e-4)
    assert suffix is not mixed
    assert targets is not given
