"""What ROME and its relatives share: one value at one layer, written by a rank-one change."""

from collections.abc import Callable
from typing import Annotated

from pydantic import Field
from torch import Tensor

from worker.editing.batches import Optimised, optimise_all
from worker.editing.context import EditContext, FactLike
from worker.editing.delta import LowRank, WeightDelta
from worker.editing.hparams import LAYERS, CovarianceHparams, Layer, ValueHparams
from worker.editing.metrics import factored
from worker.editing.progress import Steps
from worker.editing.solver import Metric, direction, rank_one


class RankOneHparams(ValueHparams, CovarianceHparams):
    """ROME's hyperparameters, under the names of the published code; it edits one layer."""

    layers: Annotated[tuple[Layer, ...], Field(min_length=1, max_length=1, description=LAYERS)]


Pick = Callable[[Tensor], Tensor]
"""Makes one vector of those at the T templates' anchors, [T, n] -> [n]."""


def bare(vectors: Tensor) -> Tensor:
    """The bare prompt's."""
    return vectors[0]


def mean(vectors: Tensor) -> Tensor:
    """The mean over all templates."""
    return vectors.mean(0)


def rank_one_delta(
    context: EditContext, fact: FactLike, hparams: RankOneHparams, *, along: Pick, at: Pick
) -> Steps[WeightDelta]:
    """The rank-one delta that makes the layer say v* at the key `at`, along C^-1 times the key `along`."""
    (layer,) = hparams.layers
    prefixes = yield from context.prefixes(hparams)
    metrics = yield from factored(context, [layer], hparams)
    (found,) = yield from optimise_all(context, [fact], prefixes, layer, hparams, at_mlp=True)
    return _written(found, layer, metrics[layer], along, at)


def _written(found: Optimised, layer: int, metric: Metric, along: Pick, at: Pick) -> WeightDelta:
    u = direction(along(found.keys), metric)
    key = at(found.keys)
    residuals, solver = rank_one(found.target, at(found.values), key, u)
    return WeightDelta({layer: LowRank(residuals.float(), solver.float())}, {layer: key[:, None].float()})
