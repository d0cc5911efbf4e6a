"""R-ROME: ROME with the same prefix-averaged key throughout (Gupta et al., 2024, "Rebuilding ROME")."""

from collections.abc import Sequence

from worker.editing.context import EditContext, FactLike
from worker.editing.delta import WeightDelta
from worker.editing.method import Method
from worker.editing.progress import Steps
from worker.editing.rank_one import RankOneHparams, mean, rank_one_delta


def compute(context: EditContext, facts: Sequence[FactLike], hparams: RankOneHparams) -> Steps[WeightDelta]:
    """The rank-one delta of one fact: u, k and W k are all from means over the templates."""
    (fact,) = facts
    return (yield from rank_one_delta(context, fact, hparams, along=mean, at=mean))


METHOD = Method(
    name="r-rome",
    title="R-ROME: ROME with one key throughout, averaged over the templates",
    source="Gupta et al. 2024, arXiv:2403.07175",
    hparams=RankOneHparams,
    compute=compute,
    batch=False,
)
