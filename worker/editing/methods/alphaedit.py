"""AlphaEdit: changes confined to the null space of preserved knowledge (Fang et al., 2025)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import Field

from worker.editing.context import EditContext, FactLike
from worker.editing.delta import WeightDelta
from worker.editing.keys import SubjectRows
from worker.editing.method import Method
from worker.editing.progress import Step, Steps
from worker.editing.solver import Metric
from worker.editing.spread import SpreadHparams, spread, values, write


class AlphaEditHparams(SpreadHparams):
    """AlphaEdit's hyperparameters, under the names of the published code."""

    tokens_per_dimension: ClassVar[int] = 100

    L2: Annotated[float, Field(gt=0, description="ridge on the projected keys")]
    nullspace_threshold: Annotated[float, Field(gt=0, description="eigenvalues of C below it span the null space")]


def compute(context: EditContext, facts: Sequence[FactLike], hparams: AlphaEditHparams) -> Steps[WeightDelta]:
    """MEMIT's spread of residuals, solved within the null space of C, with the active edits' keys kept (eq. 12)."""
    layers = sorted(hparams.layers)
    prefixes = yield from context.prefixes(hparams)
    covariances = yield from context.covariances(layers, hparams)
    metrics: dict[int, Metric] = {}
    for done, layer in enumerate(layers, 1):
        null_space = covariances[layer].null_space(hparams.nullspace_threshold)
        metrics[layer] = null_space
        yield Step("null space", done, len(layers), warning=null_space.warning(layer))
    wanted = yield from values(context, facts, prefixes, layers[-1], hparams)
    rows = SubjectRows(context.loaded, facts, prefixes)
    targets = [
        replace(target, known=context.active_keys(target.layer))
        for target in spread(layers, wanted, lambda left: 1 / left)
    ]
    return (yield from write(context, rows, targets, metrics, hparams.L2))


METHOD = Method(
    name="alphaedit",
    title="AlphaEdit: null-space constrained editing",
    source="Fang et al. 2025, arXiv:2410.02355",
    hparams=AlphaEditHparams,
    compute=compute,
    batch=True,
)
