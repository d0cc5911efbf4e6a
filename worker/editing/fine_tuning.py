"""Fine-tuning of one layer's MLP output projection, held near what it was (FT+L in ROME, section 3.3)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from worker.editing.context import EditContext, FactLike
from worker.editing.delta import Dense, WeightDelta
from worker.editing.hparams import LAYERS, Hparams, Layer
from worker.editing.progress import Step, Steps
from worker.editing.rows import check_length
from worker.errors import EditError
from worker.models.layer import LayerPass
from worker.models.loaded import LoadedModel, precise
from worker.models.memory import free_bytes, logit_pieces, token_budget
from worker.models.positions import Row
from worker.models.twin import twin_of
from worker.models.view import seen_weight

CONVERGED = 1e-2
"""The loss below which the published code moves nothing, and of an epoch below which it ends."""

KEPT = 0.25
"""Of the free memory, what may be kept of the parts that are computed once; the rest is computed in every epoch."""


class FineTuningHparams(Hparams):
    """Fine-tuning's hyperparameters, under the names of the published code; it edits one layer."""

    layers: Annotated[tuple[Layer, ...], Field(min_length=1, max_length=1, description=LAYERS)]
    num_steps: Annotated[int, Field(ge=1, le=1000, description="epochs")]
    lr: Annotated[float, Field(gt=0, description="Adam's learning rate")]
    weight_decay: Annotated[float, Field(ge=0, description="Adam's, of the whole weight")] = 0.0
    kl_factor: Annotated[float, Field(ge=0, le=0, description="the published code has no such term either")] = 0.0
    norm_constraint: Annotated[
        Annotated[float, Field(gt=0)] | Literal[False],
        Field(description="the most by which an element may change; false: no bound"),
    ] = False
    batch_size: Annotated[int, Field(ge=1, description="facts an optimiser's step is for")] = 1


RowOf = Callable[[LoadedModel, FactLike], Row]
"""Makes the row that a fact is trained on: its tokens, and what is to be said where."""


def fine_tune(
    context: EditContext, facts: Sequence[FactLike], hparams: FineTuningHparams, row_of: RowOf
) -> Steps[WeightDelta]:
    """The change that makes each row's targets likely, by Adam, minibatch after minibatch.

    loss = mean over the rows of a minibatch of the mean over a row's reads of -log p(target).
    """
    (layer,) = hparams.layers
    rows = [_row(context.loaded, fact, row_of, index, len(facts)) for index, fact in enumerate(facts)]
    try:
        tuning = FineTuning(context, rows, hparams)
        yield from tuning.steps()
    except torch.OutOfMemoryError:
        detail = "the GPU's memory does not suffice to fine-tune this layer; give fewer facts or shorter prompts"
        raise EditError("out-of-memory", "facts", detail) from None
    return WeightDelta({layer: Dense(tuning.change.detach().float().cpu())})


def _row(loaded: LoadedModel, fact: FactLike, row_of: RowOf, index: int, facts: int) -> Row:
    row = row_of(loaded, fact)
    try:
        check_length(loaded, [row])
    except EditError as error:
        raise error if facts == 1 else error.of_fact(index) from None
    return row


class FineTuning:
    """A change [h, d] of one layer, in float32 (float64 for a model in float64), trained on rows."""

    def __init__(self, context: EditContext, rows: Sequence[Row], hparams: FineTuningHparams) -> None:
        (self._layer,) = hparams.layers
        self._hparams = hparams
        self._loaded = context.loaded
        self._twin = twin_of(context.loaded, self._layer, context.compute_dtype)
        self.change = self._weight().new_zeros(self._weight().shape).requires_grad_()
        self._adam = torch.optim.Adam([self.change], lr=hparams.lr)
        self._minibatches = list(self._cut(rows))
        self._room = int(KEPT * free_bytes(context.loaded.device))
        self._kept: dict[int, LayerPass] = {}

    def steps(self) -> Steps[None]:
        """Train until an epoch's mean loss is small, num_steps epochs at most."""
        parts = sum(map(len, self._minibatches))
        of = self._hparams.num_steps * parts
        for epoch in range(self._hparams.num_steps):
            rows, total = 0, 0.0
            for done, loss, probability, size in self._epoch():
                yield Step("tune", epoch * parts + done, of, loss=loss, target_probability=probability)
                rows, total = rows + size, total + loss * size
            if total / rows < CONVERGED:
                return

    def _epoch(self) -> Iterator[tuple[int, float, float, int]]:
        """For every part: how manieth it is, its mean loss, its mean target probability, and its rows."""
        done = 0
        for minibatch in self._minibatches:
            size = sum(map(len, minibatch))
            total = 0.0
            self.change.grad = torch.zeros_like(self.change)
            for left, part in zip(reversed(range(len(minibatch))), minibatch, strict=True):
                nll, gradient = self._evaluate(self._pass(done, part), part)
                self.change.grad += gradient / size
                total += float(nll.sum())
                if not left and total / size >= CONVERGED:
                    self._move()
                done += 1
                yield done, float(nll.mean()), float(nll.neg().exp().mean()), len(part)

    def _evaluate(self, running: LayerPass, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Each row's mean NLL [B], and their sum's gradient [h, d]."""
        lengths = torch.tensor([len(row.targets) for row in rows], device=self.change.device)
        row = torch.repeat_interleave(torch.arange(len(rows), device=lengths.device), lengths)
        token = torch.tensor([token for row in rows for token in row.targets], device=lengths.device)
        share = (1 / lengths).to(self.change.dtype)[row]
        losses = self.change.new_zeros(len(rows))
        gradients: list[Tensor] = []
        with torch.enable_grad():
            hidden = running.read(running.hidden(self.change))
            for piece in logit_pieces(self._loaded, len(token)):
                leaf = hidden[piece].detach().requires_grad_()
                logprobs = self._twin.logits(leaf).log_softmax(-1)
                terms = -logprobs.gather(1, token[piece, None])[:, 0] * share[piece]
                gradients.append(torch.autograd.grad(terms.sum(), leaf)[0])
                losses.index_add_(0, row[piece], terms.detach().to(losses.dtype))
        (gradient,) = torch.autograd.grad(hidden, self.change, torch.cat(gradients))
        return losses, gradient

    @torch.no_grad()
    def _move(self) -> None:
        if self._hparams.weight_decay and self.change.grad is not None:
            self.change.grad += self._hparams.weight_decay * (self._weight() + self.change)
        self._adam.step()
        if limit := self._hparams.norm_constraint:
            self.change.clamp_(-limit, limit)

    def _weight(self) -> Tensor:
        """The weight that is changed, [h, d]."""
        weight = precise(seen_weight(self._loaded.mlp_out(self._layer)))
        return weight.T if self._loaded.family.in_out else weight

    def _pass(self, index: int, rows: Sequence[Row]) -> LayerPass:
        if index in self._kept:
            return self._kept[index]
        made = LayerPass(self._loaded, rows, self._layer, self._twin)
        if made.bytes <= self._room:
            self._room -= made.bytes
            self._kept[index] = made
        return made

    def _cut(self, rows: Sequence[Row]) -> Iterator[list[Sequence[Row]]]:
        """Minibatches of batch_size rows in order, each in parts that memory suffices for."""
        tokens = token_budget(self._loaded, self._loaded.layers - self._layer)
        for begin in range(0, len(rows), self._hparams.batch_size):
            minibatch = rows[begin : begin + self._hparams.batch_size]
            size = max(1, tokens // max(len(row.ids) for row in minibatch))
            yield [minibatch[at : at + size] for at in range(0, len(minibatch), size)]
