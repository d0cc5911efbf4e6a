"""PMET: Precise Model Editing in a Transformer (Li et al., 2023)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from worker.editing.batches import in_chunks
from worker.editing.context import EditContext, FactLike
from worker.editing.delta import WeightDelta
from worker.editing.keys import SubjectRows
from worker.editing.method import Method
from worker.editing.metrics import factored
from worker.editing.progress import Step, Steps
from worker.editing.rows import FactRows
from worker.editing.spread import WeightedHparams, spread, write
from worker.editing.values import Ease, optimise_places
from worker.models.block import BlockPass
from worker.models.twin import twin_of

EASE = Ease(factor=0.1, enough=1e-2)
"""As the published code eases a target that is certain."""


class PmetHparams(WeightedHparams):
    """PMET's hyperparameters, under the names of the published code."""

    nll_loss_factor: Annotated[Literal[1], Field(description="what the NLL counts; published as 1 throughout")] = 1


def compute(context: EditContext, facts: Sequence[FactLike], hparams: PmetHparams) -> Steps[WeightDelta]:
    """What the last layer's attention and MLP should say together; the MLPs alone are written for it (section 4)."""
    layers = sorted(hparams.layers)
    prefixes = yield from context.prefixes(hparams)
    metrics = yield from factored(context, layers, hparams)
    wanted = yield from _values(context, facts, prefixes, layers[-1], hparams)
    rows = SubjectRows(context.loaded, facts, prefixes)
    targets = [replace(target, at_mlp=True) for target in spread(layers, wanted, lambda left: left**-0.5)]
    return (yield from write(context, rows, targets, metrics, hparams.mom2_update_weight))


def _values(
    context: EditContext, facts: Sequence[FactLike], prefixes: Sequence[str], layer: int, hparams: PmetHparams
) -> Steps[Tensor]:
    """[h, N]: what the MLP of `layer` should say at each fact's subject, found together with its attention's part."""
    loaded = context.loaded
    twin = twin_of(loaded, layer - 1, context.compute_dtype)

    def compute(batch: Sequence[FactRows]) -> Steps[list[Tensor]]:
        rows = [row for fact in batch for row in fact.rows]
        running = BlockPass(loaded, rows, layer, hparams.v_loss_layer, twin)
        yield Step("key", 1, 1)
        initial, delta = yield from optimise_places(loaded, running, batch, hparams, EASE)
        return list((initial + delta)[:, 1].cpu())

    found = yield from in_chunks(loaded, facts, prefixes, loaded.layers - layer + 1, compute)
    return torch.stack(found, dim=1)


METHOD = Method(
    name="pmet",
    title="PMET: Precise Model Editing in a Transformer",
    source="Li et al. 2023, arXiv:2308.08742",
    hparams=PmetHparams,
    compute=compute,
    batch=True,
)
