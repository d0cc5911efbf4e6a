"""What MEMIT and its relatives share: values of many facts, written by changes of one or more layers in turn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from worker.editing.batches import optimise_all
from worker.editing.context import EditContext, FactLike
from worker.editing.delta import Change, LowRank, WeightDelta
from worker.editing.hparams import CovarianceHparams, ValueHparams
from worker.editing.keys import SubjectRows
from worker.editing.progress import Step, Steps, within
from worker.editing.solver import Metric, alike, solver


class SpreadHparams(ValueHparams, CovarianceHparams):
    """What MEMIT and its relatives have in common, under the names of the published code."""

    mom2_adjustment: Annotated[bool, Field(description="use C = E[k k^T]; without it, C = I")] = True


class WeightedHparams(SpreadHparams):
    """MEMIT's hyperparameters, under the names of the published code."""

    mom2_update_weight: Annotated[float, Field(gt=0, description="lambda, the weight of C")]


@dataclass(frozen=True)
class Target:
    """What one layer is written for: `share` of what layer `at` lacks in the values it should have.

    values: Z, [h, N], what the residual stream should be after it; at_mlp: what its MLP should say.
    known: K_0 [d, N_0], keys of the layer whose outputs are to stay.
    """

    layer: int
    at: int
    values: Tensor
    share: float
    known: Tensor | None = None
    at_mlp: bool = False


def values(
    context: EditContext, facts: Sequence[FactLike], prefixes: Sequence[str], layer: int, hparams: ValueHparams
) -> Steps[Tensor]:
    """Z, [h, N]: what the residual stream after `layer` should be at each fact's subject (MEMIT, equation 16)."""
    found = yield from optimise_all(context, facts, prefixes, layer, hparams, at_mlp=False)
    return torch.stack([one.target for one in found], dim=1)


def spread(layers: Sequence[int], values_at_last: Tensor, share: Callable[[int], float]) -> list[Target]:
    """Targets for layers that together bring the stream after the last of them to its values.

    share: what a layer takes of what is lacking, by how many layers are left, itself among them.
    """
    return [Target(layer, layers[-1], values_at_last, share(len(layers) - index)) for index, layer in enumerate(layers)]


def write(
    context: EditContext,
    rows: SubjectRows,
    targets: Sequence[Target],
    metrics: Mapping[int, Metric],
    weight: float,
) -> Steps[WeightDelta]:
    """Change layer after layer, each under the changes before it (MEMIT, algorithm 1).

    metrics: what stands for C^-1 at each layer; weight: of C, lambda.
    """
    changes: dict[int, Change] = {}
    keys: dict[int, Tensor] = {}
    for index, target in enumerate(targets, 1):
        metric = metrics[target.layer]
        seeing = rows.keys_and_values(target.layer, target.at, at_mlp=target.at_mlp)
        found, now = yield from within(context.view(changes), seeing)
        residuals = (target.values.double() - now.double()) * target.share
        if context.loaded.family.post_mlp is not None and not target.at_mlp:
            said = yield from within(context.view(changes), rows.said(target.layer))
            residuals = context.loaded.before_post_mlp(target.layer, said.double().T, residuals.T).T
        changes[target.layer] = LowRank(residuals.float(), solver(found, metric, weight, target.known).float())
        keys[target.layer] = found.float()
        yield Step("update", index, len(targets), warning=alike(found, metric) if index == 1 else None)
    return WeightDelta(changes, keys)
