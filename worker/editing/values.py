"""Value optimisation: what an MLP should say at the subject's last token (ROME, section 3.1, equation 4)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from worker.editing.hparams import ValueHparams
from worker.editing.progress import Step, Steps
from worker.models.suffix import SuffixPass

CONVERGED = 5e-2
"""The loss at which the published code stops."""


@dataclass(frozen=True)
class Targets:
    """What each template row should say. Rows 0..T-1 of the suffix pass are the templates, row T is the KL row.

    token_ids: [M] target tokens, row after row; row_of: [M] the template row of each; lengths: [T] tokens a row.
    """

    token_ids: Tensor
    row_of: Tensor
    lengths: Tensor


def optimise(
    suffix: SuffixPass, targets: Targets, initial: Tensor, hparams: ValueHparams, *, at_mlp: bool
) -> Steps[Tensor]:
    """The delta [h] float32 that makes the targets likely, by Adam and projected to a ball around `initial` [h].

    loss = mean over rows of the mean token NLL + kl_factor * KL(p_init || p_now) at "{subject} is a"
    + v_weight_decay * |delta| / |initial|^2.
    """
    delta = torch.zeros_like(initial, requires_grad=True)
    optimizer = torch.optim.Adam([delta], lr=hparams.v_lr)
    limit = hparams.clamp_norm_factor * initial.norm()
    kl_initial: Tensor | None = None
    for step in range(1, hparams.v_num_grad_steps + 1):
        with torch.enable_grad():
            hidden = suffix.hidden(delta, at_mlp=at_mlp)
            nll = _nll_by_row(suffix.read(hidden), targets)
            kl_now = suffix.read_anchors(hidden, slice(len(targets.lengths), None)).log_softmax(-1)
            kl_initial = kl_now.detach() if kl_initial is None else kl_initial
            kl = F.kl_div(kl_initial, kl_now, log_target=True, reduction="batchmean")
            decay = hparams.v_weight_decay * delta.norm() / initial.norm() ** 2
            loss = nll.mean() + hparams.kl_factor * kl + decay
        likely = float(torch.exp(-nll.detach()).mean())
        yield Step("value", step, hparams.v_num_grad_steps, loss=float(loss.detach()), target_probability=likely)
        if float(loss.detach()) < CONVERGED or step == hparams.v_num_grad_steps:
            break
        delta.grad = torch.autograd.grad(loss, delta)[0]
        optimizer.step()
        with torch.no_grad():
            if delta.norm() > limit:
                delta.mul_(limit / delta.norm())
    return delta.detach()


def _nll_by_row(logits: Tensor, targets: Targets) -> Tensor:
    """[T] mean negative log-likelihood of each row's target tokens."""
    nll = -logits.log_softmax(-1).gather(1, targets.token_ids[:, None])[:, 0]
    return torch.zeros_like(targets.lengths).index_add(0, targets.row_of, nll) / targets.lengths
