"""FT-L: fine-tuning of one layer by what is said at the prompt's end (Meng et al., 2022; Zhang et al., 2024)."""

from collections.abc import Sequence
from dataclasses import replace

from worker.editing.context import EditContext, FactLike
from worker.editing.delta import WeightDelta
from worker.editing.fine_tuning import FineTuningHparams, fine_tune
from worker.editing.method import Method
from worker.editing.progress import Steps
from worker.models.loaded import LoadedModel
from worker.models.positions import Row, target_row


def compute(context: EditContext, facts: Sequence[FactLike], hparams: FineTuningHparams) -> Steps[WeightDelta]:
    """The dense delta that makes every token of a target likely right after its prompt."""
    return (yield from fine_tune(context, facts, hparams, _prompt_row))


def _prompt_row(loaded: LoadedModel, fact: FactLike) -> Row:
    """The prompt alone; all of the target's tokens are wanted at its last one."""
    row = target_row(loaded.tokenizer, fact.prompt, fact.target_new)
    end = row.reads[0]
    return replace(row, ids=row.ids[: end + 1], reads=(end,) * len(row.targets))


METHOD = Method(
    name="ft-l",
    title="FT-L: fine-tuning of one layer, every target token at the prompt's end",
    source="Meng et al. 2022, arXiv:2202.05262, as FT-L in Zhang et al. 2024, arXiv:2401.01286",
    hparams=FineTuningHparams,
    compute=compute,
    batch=True,
)
