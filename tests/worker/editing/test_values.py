"""The value optimisation finds what it is asked for, within its ball, and stops when it has it."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.driving import finish, finish_noting
from tests.families import LAYERS, tiny_model
from worker.editing.progress import Step
from worker.editing.rank_one import RankOneHparams
from worker.editing.rows import FactRows, reads_of
from worker.editing.values import CONVERGED, optimise
from worker.models.loaded import LoadedModel
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


@dataclass(frozen=True)
class Given:
    """One fact's rows, ready to be optimised over."""

    loaded: LoadedModel
    rows: FactRows
    suffix: SuffixPass

    def optimised(self, **changes: Any) -> tuple[Tensor, list[Step]]:
        """The delta [h], and the steps."""
        steps = optimise(self.loaded, self.suffix, [self.rows], _hparams(**changes), at_mlp=True)
        (_, (delta,)), seen = finish_noting(steps)
        return delta, seen

    @torch.no_grad()
    def logprobs(self, delta: Tensor, *, of_kl: bool) -> Tensor:
        """Log-probabilities [M, vocabulary] where targets are read, or where the KL is."""
        hidden = self.suffix.read(self.suffix.hidden(delta, at_mlp=True))
        is_kl = reads_of([self.rows], hidden.device).is_kl
        return self.loaded.logits(hidden[is_kl if of_kl else ~is_kl]).log_softmax(-1)

    def nll(self, delta: Tensor) -> float:
        """The mean over the target tokens of all rows."""
        tokens = torch.tensor([token for row in self.rows.rows for token in row.targets])
        return float(torch.nn.functional.nll_loss(self.logprobs(delta, of_kl=False), tokens))


def _given(loaded: LoadedModel, rows: FactRows) -> Given:
    return Given(loaded, rows, SuffixPass(loaded, rows.rows, 1))


def _asked(loaded: LoadedModel, target: str) -> Given:
    rows = [target_row(loaded.tokenizer, PROMPT, target, SUBJECT, prefix) for prefix in ("", "The city. ")]
    kl_row = subject_row(loaded.tokenizer, f"{SUBJECT} is a", SUBJECT)
    return _given(loaded, FactRows((*rows, kl_row), templates=2, kl_row=2))


@pytest.fixture(scope="module")
def given() -> Given:
    loaded = tiny_model("llama")
    loaded.model.lm_head.weight.data *= 8  # so that it can be sure of what it says
    return _asked(loaded, "football")


def test_the_target_becomes_likely(given: Given) -> None:
    delta, steps = given.optimised()
    assert given.nll(delta) < given.nll(torch.zeros(32)) - 1
    assert steps[0].loss == pytest.approx(given.nll(torch.zeros(32)), rel=1e-4)
    losses = [step.loss for step in steps if step.loss is not None]
    assert len(losses) == len(steps)
    assert losses[-1] < losses[0]
    assert all(step.target_probability is not None and 0 < step.target_probability < 1 for step in steps)


def test_the_initial_value_is_the_bare_prompts(given: Given) -> None:
    initial, _ = finish(optimise(given.loaded, given.suffix, [given.rows], _hparams(), at_mlp=True))
    assert torch.equal(initial, given.suffix.values[:1])
    initial, _ = finish(optimise(given.loaded, given.suffix, [given.rows], _hparams(), at_mlp=False))
    assert torch.equal(initial, given.suffix.stream[:1])
    assert not torch.equal(given.suffix.stream, given.suffix.values)


def test_the_probability_is_the_mean_over_rows_of_the_geometric_mean() -> None:
    given = _asked(tiny_model("llama"), "basketball and more")
    _, steps = given.optimised(v_num_grad_steps=1)
    tokens = torch.tensor([row.targets for row in given.rows.rows[:2]])
    logprobs = given.logprobs(torch.zeros(32), of_kl=False).reshape(2, tokens.shape[1], -1)
    expected = logprobs.gather(2, tokens[..., None])[..., 0].mean(1).exp().mean()
    assert tokens.shape[1] > 1
    assert steps[0].target_probability == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("factor", [0.01, 0.3])
def test_delta_stays_in_its_ball(given: Given, factor: float) -> None:
    delta, _ = given.optimised(clamp_norm_factor=factor, v_lr=5.0)
    limit = factor * float(given.suffix.values[0].norm())
    assert 0.5 * limit < float(delta.norm()) <= limit * (1 + 1e-5)


def test_one_step_only_measures(given: Given) -> None:
    """As in the published code, the last step computes a loss and moves nothing."""
    delta, steps = given.optimised(v_num_grad_steps=1)
    assert len(steps) == 1
    assert torch.equal(delta, torch.zeros_like(delta))


def test_it_stops_when_the_loss_is_small(given: Given) -> None:
    somewhere = torch.randn(32, generator=torch.Generator().manual_seed(0)) * 10
    reachable = iter(given.logprobs(somewhere, of_kl=False).argmax(-1).tolist())
    easy = [replace(row, targets=tuple(next(reachable) for _ in row.targets)) for row in given.rows.rows]
    loaded = given.loaded
    hparams = {"v_num_grad_steps": 300, "kl_factor": 0, "v_weight_decay": 0, "clamp_norm_factor": 50}
    _, steps = _given(loaded, replace(given.rows, rows=tuple(easy))).optimised(**hparams)
    losses = [step.loss for step in steps if step.loss is not None]
    assert 1 < len(losses) < 300
    assert losses[-1] < CONVERGED <= min(losses[:-1])


def test_what_weighs_more_moves_less(given: Given) -> None:
    """Weight decay pulls delta in, and the KL term keeps what the model says of the subject."""
    assert float(given.optimised(v_weight_decay=50.0)[0].norm()) < float(given.optimised()[0].norm())
    before = given.logprobs(torch.zeros(32), of_kl=True)
    said = [given.logprobs(given.optimised(kl_factor=factor)[0], of_kl=True) for factor in (0.0, 20.0)]
    drift = [float(torch.nn.functional.kl_div(before, now, log_target=True, reduction="batchmean")) for now in said]
    assert drift[1] < drift[0]


def test_a_target_of_several_tokens_counts_as_one_row(given: Given) -> None:
    """The loss is the mean over rows of each row's mean, so a longer row weighs no more."""
    loaded = tiny_model("llama")
    rows = [target_row(loaded.tokenizer, PROMPT, target, SUBJECT) for target in ("basketball and more", "football")]
    mixed = _given(loaded, FactRows((*rows, given.rows.rows[2]), templates=2, kl_row=2))
    assert len(rows[0].targets) > len(rows[1].targets)
    _, steps = mixed.optimised(v_num_grad_steps=1)
    logprobs = mixed.logprobs(torch.zeros(32), of_kl=False)
    tokens = torch.tensor([token for row in rows for token in row.targets])
    picked = -logprobs.gather(1, tokens[:, None])[:, 0]
    cut = len(rows[0].targets)
    expected = (float(picked[:cut].mean()) + float(picked[cut:].mean())) / 2
    assert steps[0].loss == pytest.approx(expected, rel=1e-4)
    assert abs(expected - float(picked.mean())) > 1e-3
