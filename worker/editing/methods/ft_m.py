"""FT-M: fine-tuning of one layer by the likelihood of the target after its prompt (Zhang et al., 2024)."""

from collections.abc import Sequence

from worker.editing.context import EditContext, FactLike
from worker.editing.delta import WeightDelta
from worker.editing.fine_tuning import FineTuningHparams, fine_tune
from worker.editing.method import Method
from worker.editing.progress import Steps
from worker.models.loaded import LoadedModel
from worker.models.positions import Row, target_row


def compute(context: EditContext, facts: Sequence[FactLike], hparams: FineTuningHparams) -> Steps[WeightDelta]:
    """The dense delta that makes each target token likely after its prompt and the target's tokens before it."""
    return (yield from fine_tune(context, facts, hparams, _target_row))


def _target_row(loaded: LoadedModel, fact: FactLike) -> Row:
    return target_row(loaded.tokenizer, fact.prompt, fact.target_new)


METHOD = Method(
    name="ft-m",
    title="FT-M: fine-tuning of one layer by the target's likelihood",
    source="Zhang et al. 2024, arXiv:2401.01286",
    hparams=FineTuningHparams,
    compute=compute,
    batch=True,
)
