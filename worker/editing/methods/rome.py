"""ROME: Rank-One Model Editing (Meng et al., 2022, "Locating and Editing Factual Associations in GPT")."""

from collections.abc import Sequence

from worker.editing.context import EditContext, FactLike
from worker.editing.delta import WeightDelta
from worker.editing.method import Method
from worker.editing.progress import Steps
from worker.editing.rank_one import RankOneHparams, bare, mean, rank_one_delta


def compute(context: EditContext, facts: Sequence[FactLike], hparams: RankOneHparams) -> Steps[WeightDelta]:
    """The rank-one delta of one fact: u from the mean key over the templates, k and W k from the bare prompt."""
    (fact,) = facts
    return (yield from rank_one_delta(context, fact, hparams, along=mean, at=bare))


METHOD = Method(
    name="rome",
    title="ROME: Rank-One Model Editing",
    source="Meng et al. 2022, arXiv:2202.05262",
    hparams=RankOneHparams,
    compute=compute,
    batch=False,
)
