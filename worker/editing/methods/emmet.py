"""EMMET: equality-constrained mass editing at one layer (Gupta et al., 2024, arXiv:2403.14236)."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from worker.editing.context import EditContext, FactLike
from worker.editing.delta import WeightDelta
from worker.editing.hparams import LAYERS, Layer
from worker.editing.keys import SubjectRows
from worker.editing.method import Method
from worker.editing.metrics import factored
from worker.editing.progress import Steps
from worker.editing.spread import SpreadHparams, Target, values, write


class EmmetHparams(SpreadHparams):
    """EMMET's hyperparameters, under the names of the published code; it edits one layer."""

    layers: Annotated[tuple[Layer, ...], Field(min_length=1, max_length=1, description=LAYERS)]
    mom2_update_weight: Annotated[float, Field(gt=0, description="w, the weight of C")] = 1.0
    emmet_lambda: Annotated[float, Field(ge=0, description="eps, the ridge on K^T (w C)^-1 K of several facts")] = 0.1


def compute(context: EditContext, facts: Sequence[FactLike], hparams: EmmetHparams) -> Steps[WeightDelta]:
    """A = (w C)^-1 K (K^T (w C)^-1 K + eps I)^-1, which is MEMIT's at one layer with lambda = w eps.

    The published code gives a single fact no ridge: the constraint then holds exactly.
    """
    (layer,) = hparams.layers
    prefixes = yield from context.prefixes(hparams)
    metrics = yield from factored(context, [layer], hparams)
    wanted = yield from values(context, facts, prefixes, layer, hparams)
    rows = SubjectRows(context.loaded, facts, prefixes)
    weight = hparams.mom2_update_weight * hparams.emmet_lambda if len(facts) > 1 else 0.0
    return (yield from write(context, rows, [Target(layer, layer, wanted, share=1.0)], metrics, weight))


METHOD = Method(
    name="emmet",
    title="EMMET: Equality-constrained Mass Model Editing",
    source="Gupta et al. 2024, arXiv:2403.14236",
    hparams=EmmetHparams,
    compute=compute,
    batch=True,
)
