"""MEMIT: Mass-Editing Memory in a Transformer (Meng et al., 2023)."""

from collections.abc import Sequence

from worker.editing.context import EditContext, FactLike
from worker.editing.delta import WeightDelta
from worker.editing.keys import SubjectRows
from worker.editing.method import Method
from worker.editing.metrics import factored
from worker.editing.progress import Steps
from worker.editing.spread import WeightedHparams, spread, values, write


def compute(context: EditContext, facts: Sequence[FactLike], hparams: WeightedHparams) -> Steps[WeightDelta]:
    """Z at the last layer; then every layer takes its share of what is lacking, in turn (algorithm 1)."""
    layers = sorted(hparams.layers)
    prefixes = yield from context.prefixes(hparams)
    metrics = yield from factored(context, layers, hparams)
    wanted = yield from values(context, facts, prefixes, layers[-1], hparams)
    rows = SubjectRows(context.loaded, facts, prefixes)
    targets = spread(layers, wanted, lambda left: 1 / left)
    return (yield from write(context, rows, targets, metrics, hparams.mom2_update_weight))


METHOD = Method(
    name="memit",
    title="MEMIT: Mass-Editing Memory in a Transformer",
    source="Meng et al. 2023, arXiv:2210.07229",
    hparams=WeightedHparams,
    compute=compute,
    batch=True,
)
