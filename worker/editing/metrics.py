"""What stands for C^-1 at each layer: C factored, or the identity."""

from collections.abc import Mapping, Sequence

from worker.editing.context import EditContext
from worker.editing.covariance import Identity
from worker.editing.hparams import CovarianceHparams
from worker.editing.progress import Steps
from worker.editing.solver import Metric


def factored(context: EditContext, layers: Sequence[int], hparams: CovarianceHparams) -> Steps[Mapping[int, Metric]]:
    """C of each layer, factored; C = I where mom2_adjustment is off."""
    if not hparams.mom2_adjustment:
        return {layer: Identity() for layer in layers}
    covariances = yield from context.covariances(layers, hparams)
    found: dict[int, Metric] = {}
    for layer in layers:
        found[layer] = yield from covariances[layer].factored()
    return found
