"""ROME: Rank-One Model Editing (Meng et al., 2022, "Locating and Editing Factual Associations in GPT")."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field

from worker.editing.context import EditContext, FactLike
from worker.editing.delta import LowRank, WeightDelta
from worker.editing.hparams import CovarianceHparams, Layer, ValueHparams
from worker.editing.method import Method
from worker.editing.progress import Step, Steps
from worker.editing.solver import direction, rank_one
from worker.editing.values import Targets, optimise
from worker.errors import EditError
from worker.models.loaded import LoadedModel
from worker.models.positions import subject_row, target_row
from worker.models.suffix import SuffixPass


class RomeHparams(ValueHparams, CovarianceHparams):
    """ROME's hyperparameters, under the names of the published code; it edits one layer."""

    layers: Annotated[tuple[Layer, ...], Field(min_length=1, max_length=1)]


def compute(context: EditContext, facts: Sequence[FactLike], hparams: RomeHparams) -> Steps[WeightDelta]:
    """The rank-one delta of one fact: u from the mean key over the templates, v* from the value optimisation."""
    (fact,) = facts
    (layer,) = hparams.layers
    prefixes = yield from context.prefixes(hparams)
    suffix, targets = _prepare(context.loaded, fact, prefixes, layer, hparams.v_loss_layer)
    yield Step("key", 1, 1)
    covariance = (yield from context.covariance(layer, hparams)) if hparams.mom2_adjustment else None
    u = direction(suffix.keys[: len(prefixes)].mean(0).cpu(), None if covariance is None else covariance.cpu())
    initial = suffix.values[0]
    delta = yield from optimise(suffix, targets, initial, hparams, at_mlp=True)
    value, output, key = (initial + delta).cpu(), suffix.values[0].cpu(), suffix.keys[0].cpu()
    residuals, solver = rank_one(value, output, key, u)
    return WeightDelta({layer: LowRank(residuals, solver)})


def _prepare(
    loaded: LoadedModel, fact: FactLike, prefixes: Sequence[str], layer: int, loss_layer: int
) -> tuple[SuffixPass, Targets]:
    rows = [target_row(loaded.tokenizer, fact.prompt, fact.target_new, fact.subject, prefix) for prefix in prefixes]
    if (longest := max(len(row.ids) for row in rows)) > loaded.context_length:
        raise EditError(
            "too-long", "prompt", f"needs {longest} tokens with its templates; the model takes {loaded.context_length}"
        )
    # The KL is read at the subject's last token, so nothing after it is needed.
    kl_row = subject_row(loaded.tokenizer, f"{fact.subject} is a", fact.subject)
    suffix = SuffixPass(loaded, [*rows, kl_row], layer, loss_layer)
    device = loaded.device
    return suffix, Targets(
        token_ids=torch.tensor([token for row in rows for token in row.targets], device=device),
        row_of=torch.tensor([index for index, row in enumerate(rows) for _ in row.targets], device=device),
        lengths=torch.tensor([float(len(row.targets)) for row in rows], device=device),
    )


METHOD = Method(
    name="rome",
    title="ROME: Rank-One Model Editing",
    source="Meng et al. 2022, arXiv:2202.05262",
    hparams=RomeHparams,
    compute=compute,
)
