"""Value optimisation: what a layer should say at the subject's last token (ROME, section 3.1, equation 4).

The facts of a chunk are optimised together; they do not influence one another, and one that has converged leaves.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from worker.editing.hparams import ValueHparams
from worker.editing.places import Movable, OnePlace
from worker.editing.progress import Step, Steps
from worker.editing.rows import FactRows, Reads, reads_of
from worker.models.loaded import LoadedModel
from worker.models.memory import logit_pieces
from worker.models.suffix import SuffixPass

CONVERGED = 5e-2
"""The loss at which the published code stops."""


@dataclass(frozen=True)
class Losses:
    """What one evaluation found for each of F facts.

    loss: [F]; divergence: [F], the KL's part of it; probability: [F], the target's; certain: [F], whether every token
    of it is the likeliest in every row; gradient: [M, h], d loss / d hidden.
    """

    loss: Tensor
    divergence: Tensor
    probability: Tensor
    certain: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class Ease:
    """How to go easy on a fact whose target is certain.

    factor: what its NLL counts in the next evaluation; enough: the KL's part up to which it has converged.
    """

    factor: float
    enough: float


class ChunkOptimisation:
    """The deltas [F, P, h] of a chunk of facts, by Adam, each projected to a ball around its initial value.

    loss = mean over rows of the mean token NLL + kl_factor * KL(p_now || p_init) at "{subject} is a"
    + v_weight_decay * |delta| / |initial|^2 at every place, fact by fact.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        running: Movable,
        batch: Sequence[FactRows],
        hparams: ValueHparams,
        ease: Ease | None = None,
    ) -> None:
        self._loaded = loaded
        self._running = running
        self._hparams = hparams
        self._ease = ease
        lengths = torch.tensor([len(fact.rows) for fact in batch])
        device = running.initial.device
        self._fact_of_row = torch.repeat_interleave(torch.arange(len(batch)), lengths).to(device)
        self._reads = reads_of(batch, device)
        first = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)[:-1]]).to(device)
        self.initial = running.initial[first]
        self.delta = torch.zeros_like(self.initial, requires_grad=True)
        self._adam = torch.optim.Adam([self.delta], lr=hparams.v_lr)
        self._limit = hparams.clamp_norm_factor * self.initial.norm(dim=-1, keepdim=True)
        self._factor = torch.ones(len(batch), dtype=self.initial.dtype, device=device)
        self._kl_initial: Tensor | None = None
        self._going = torch.arange(len(batch), device=device)
        self._latest = torch.zeros(2, len(batch), dtype=self.initial.dtype, device=device)

    def steps(self) -> Iterator[Tensor]:
        """Evaluate and move, at most v_num_grad_steps times; the last evaluation moves nothing.

        Yields each fact's latest loss and target probability, [2, F].
        """
        found = torch.zeros_like(self.initial)
        for step in range(1, self._hparams.v_num_grad_steps + 1):
            losses, gradient = self._evaluate()
            self._latest[:, self._going] = torch.stack([losses.loss, losses.probability])[:, self._going]
            yield self._latest
            converged = self._converged(losses)[self._going]
            if step == self._hparams.v_num_grad_steps:
                converged = torch.ones_like(converged)
            leaving, self._going = self._going[converged], self._going[~converged]
            found[leaving] = self.delta.detach()[leaving]
            if not len(self._going):
                break
            if len(leaving):
                self._leave(leaving)
            self._move(gradient)
        self.delta = found

    def _evaluate(self) -> tuple[Losses, Tensor]:
        with torch.enable_grad():
            hidden = self._running.read(self._running.hidden(self.delta[self._fact_of_row]))
            relative = self.delta.norm(dim=-1) / self.initial.norm(dim=-1) ** 2
            decay = self._hparams.v_weight_decay * relative.sum(1)
            losses = self._losses(hidden.detach())
            (gradient,) = torch.autograd.grad(
                [hidden, decay.sum()], [self.delta], [losses.gradient.to(hidden.dtype), torch.ones_like(decay.sum())]
            )
        return replace(losses, loss=losses.loss + decay.detach()), gradient

    def _converged(self, losses: Losses) -> Tensor:
        """[F]; also sets what each fact's NLL counts from now on."""
        small = losses.loss < CONVERGED
        if self._ease is None:
            return small
        self._factor = torch.where(losses.certain, self._ease.factor, 1.0).to(self._factor.dtype)
        return small | (losses.certain & (losses.divergence <= self._ease.enough))

    def _losses(self, hidden: Tensor) -> Losses:
        """Losses without decay, and their gradient: piece by piece, since logits are the largest tensors of all."""
        reads, facts = self._reads, self._reads.facts
        loss = torch.zeros(facts, dtype=self.initial.dtype, device=hidden.device)
        divergence = torch.zeros_like(loss)
        certain = torch.ones(facts, dtype=torch.bool, device=hidden.device)
        row_nll = torch.zeros(len(self._fact_of_row), dtype=loss.dtype, device=hidden.device)
        row_share = torch.zeros_like(row_nll)
        gradients: list[Tensor] = []
        initial: list[Tensor] = []
        for piece in logit_pieces(self._loaded, len(hidden)):
            leaf = hidden[piece].to(loss.dtype).requires_grad_()
            with torch.enable_grad():
                logprobs = self._loaded.logits(leaf).log_softmax(-1)
                nll = -logprobs.gather(1, reads.token[piece].clamp_min(0)[:, None])[:, 0]
                terms = nll * reads.share[piece].to(loss.dtype) * self._factor[reads.fact[piece]]
                is_kl = reads.is_kl[piece]
                if bool(is_kl.any()):
                    now = logprobs[is_kl]
                    before = self._initial(piece, now, initial)
                    apart = self._hparams.kl_factor * (now.exp() * (now - before)).sum(-1)
                    terms = terms.index_add(0, is_kl.nonzero()[:, 0], apart)
                    divergence.index_add_(0, reads.fact[piece][is_kl], apart.detach())
            gradients.append(torch.autograd.grad(terms.sum(), leaf)[0])
            loss.index_add_(0, reads.fact[piece], terms.detach())
            if self._ease is not None:
                missed = (logprobs.detach().argmax(-1) != reads.token[piece]) & ~is_kl
                certain[reads.fact[piece][missed]] = False
            share = (reads.share[piece] > 0).to(loss.dtype)
            row_nll.index_add_(0, reads.row[piece], nll.detach() * share)
            row_share.index_add_(0, reads.row[piece], share)
        if self._kl_initial is None:
            self._kl_initial = torch.cat(initial)
        return Losses(loss, divergence, self._probability(row_nll, row_share), certain, torch.cat(gradients))

    def _initial(self, piece: slice, now: Tensor, noted: list[Tensor]) -> Tensor:
        """The log-probabilities [K, vocabulary] at a piece's KL reads before anything moved."""
        if self._kl_initial is None:
            noted.append(now.detach())
            return noted[-1]
        begin = int(self._reads.is_kl[: piece.start].sum())
        return self._kl_initial[begin : begin + len(now)]

    def _probability(self, row_nll: Tensor, row_share: Tensor) -> Tensor:
        """[F]: the mean over a fact's rows of the geometric mean of its target tokens' probabilities."""
        rows = row_share > 0
        likely = torch.exp(-row_nll[rows] / row_share[rows])
        fact = self._fact_of_row[rows]
        total = torch.zeros(self._reads.facts, dtype=likely.dtype, device=likely.device).index_add(0, fact, likely)
        return total / torch.bincount(fact, minlength=self._reads.facts).clamp_min(1)

    def _leave(self, facts: Tensor) -> None:
        stays = ~torch.isin(self._fact_of_row, facts)
        rows = stays.nonzero()[:, 0]
        place = torch.cumsum(stays, 0) - 1
        reads = self._reads
        kept = ~reads.of(facts)
        if self._kl_initial is not None:
            self._kl_initial = self._kl_initial[kept[reads.is_kl]]
        self._reads = Reads(reads.fact[kept], place[reads.row[kept]], reads.token[kept], reads.share[kept], reads.facts)
        self._fact_of_row = self._fact_of_row[rows]
        self._running.keep(rows)

    @torch.no_grad()
    def _move(self, gradient: Tensor) -> None:
        self.delta.grad = gradient
        self._adam.step()
        norm = self.delta.norm(dim=-1, keepdim=True)
        self.delta.mul_(torch.where(norm > self._limit, self._limit / norm, 1.0))


def optimise_places(
    loaded: LoadedModel, running: Movable, batch: Sequence[FactRows], hparams: ValueHparams, ease: Ease | None = None
) -> Steps[tuple[Tensor, Tensor]]:
    """The initial values and the deltas, both [F, P, h], of a chunk whose rows `running` holds, in order."""
    chunk = ChunkOptimisation(loaded, running, batch, hparams, ease)
    for step, latest in enumerate(chunk.steps(), 1):
        loss, probability = latest.mean(1).tolist()
        yield Step("value", step, hparams.v_num_grad_steps, loss=loss, target_probability=probability)
    return chunk.initial, chunk.delta


def optimise(
    loaded: LoadedModel, suffix: SuffixPass, batch: Sequence[FactRows], hparams: ValueHparams, *, at_mlp: bool
) -> Steps[tuple[Tensor, Tensor]]:
    """The initial values and the deltas, both [F, h], of a chunk whose rows `suffix` holds, in order."""
    initial, delta = yield from optimise_places(loaded, OnePlace(suffix, at_mlp), batch, hparams)
    return initial[:, 0], delta[:, 0]
