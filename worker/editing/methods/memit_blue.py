"""MEMIT_BLUE: MEMIT at the first and the last of its layers only (Li et al., 2025, "Boundary Layer UpdatE")."""

from collections.abc import Sequence

from worker.editing.context import EditContext, FactLike
from worker.editing.delta import WeightDelta
from worker.editing.keys import SubjectRows
from worker.editing.method import Method
from worker.editing.metrics import factored
from worker.editing.progress import Steps
from worker.editing.spread import Target, WeightedHparams, values, write


def compute(context: EditContext, facts: Sequence[FactLike], hparams: WeightedHparams) -> Steps[WeightDelta]:
    """Z at both boundary layers on the head's weights; each layer takes the whole of what its own Z lacks."""
    layers = sorted({min(hparams.layers), max(hparams.layers)})
    prefixes = yield from context.prefixes(hparams)
    metrics = yield from factored(context, layers, hparams)
    targets = []
    for layer in layers:
        wanted = yield from values(context, facts, prefixes, layer, hparams)
        targets.append(Target(layer, layer, wanted, share=1.0))
    rows = SubjectRows(context.loaded, facts, prefixes)
    return (yield from write(context, rows, targets, metrics, hparams.mom2_update_weight))


METHOD = Method(
    name="memit-blue",
    title="MEMIT_BLUE: MEMIT on the first and the last layer, each with its own residual",
    source="Li et al. 2025, arXiv:2502.03748",
    hparams=WeightedHparams,
    compute=compute,
    batch=True,
)
