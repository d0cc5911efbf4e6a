"""The papers' loops as their code has them: whole model, every position, one fact at a time, without any economy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from worker.editing.context import EditContext, FactLike
from worker.editing.covariance import Covariance
from worker.editing.delta import LowRank, WeightDelta
from worker.editing.hparams import ValueHparams
from worker.editing.rank_one import RankOneHparams
from worker.editing.values import CONVERGED
from worker.models.loaded import LoadedModel
from worker.models.positions import Row, subject_row, target_row


@dataclass(frozen=True)
class PlainValue:
    """v_init [h], delta [h], and how many steps were evaluated."""

    initial: Tensor
    delta: Tensor
    steps: int


@dataclass(frozen=True)
class PlainEdit:
    """u [d], the right vector [h], and how many steps were evaluated."""

    left: Tensor
    right: Tensor
    steps: int


def plain_rome(loaded: LoadedModel, fact: FactLike, prefixes: Sequence[str], hparams: RankOneHparams) -> PlainEdit:
    """ROME with C = I, written down step by step from the paper (section 3.1)."""
    (layer,) = hparams.layers
    rows = _rows(loaded, fact, prefixes)
    keys, _ = _seen(loaded, rows, loaded.mlp_out(layer))
    value = plain_value(loaded, rows, layer, hparams, at_mlp=True)
    mean_key = keys[: len(prefixes)].mean(0)
    left = mean_key / mean_key.norm()
    return PlainEdit(left, value.delta / torch.dot(keys[0], left), value.steps)


def plain_memit(
    context: EditContext,
    facts: Sequence[FactLike],
    prefixes: Sequence[str],
    covariances: Mapping[int, Covariance],
    hparams: Any,
) -> tuple[WeightDelta, list[int]]:
    """MEMIT, written down from algorithm 1 of the paper; and the steps that each fact took."""
    loaded, layers = context.loaded, sorted(hparams.layers)
    rows = [_rows(loaded, fact, prefixes)[:-1] for fact in facts]
    found = [plain_value(loaded, _rows(loaded, fact, prefixes), layers[-1], hparams, at_mlp=False) for fact in facts]
    targets = torch.stack([value.initial + value.delta for value in found], dim=1)
    changes: dict[int, LowRank] = {}
    for index, layer in enumerate(layers):
        with context.view(changes)():
            keys = torch.stack([_mean_key(loaded, fact_rows, layer) for fact_rows in rows], dim=1).double()
            block = loaded.module(loaded.family.layer, layers[-1])
            now = torch.stack([_seen(loaded, fact_rows[:1], block)[1][0] for fact_rows in rows], dim=1)
        matrix = hparams.mom2_update_weight * covariances[layer].matrix.double() + keys @ keys.T
        residuals = (targets - now) / (len(layers) - index)
        changes[layer] = LowRank(residuals, torch.linalg.solve(matrix, keys).float())
    return WeightDelta(changes), [value.steps for value in found]


def plain_value(
    loaded: LoadedModel, rows: Sequence[Row], layer: int, hparams: ValueHparams, *, at_mlp: bool
) -> PlainValue:
    """The optimised value of one fact; the last row is the KL row.

    at_mlp: of the MLP's output (ROME) rather than of the block's (MEMIT).
    """
    module = loaded.mlp_out(layer) if at_mlp else loaded.module(loaded.family.layer, layer)
    initial = _seen(loaded, rows, module)[1][0]
    delta = torch.zeros_like(initial, requires_grad=True)
    optimizer = torch.optim.Adam([delta], lr=hparams.v_lr)
    limit = hparams.clamp_norm_factor * initial.norm()
    kl_initial: Tensor | None = None
    step = 0
    for step in range(1, hparams.v_num_grad_steps + 1):
        optimizer.zero_grad()
        logprobs = _logits_with(loaded, rows, module, delta).log_softmax(-1)
        nll = torch.stack([_nll(logprobs[index], row) for index, row in enumerate(rows[:-1])])
        kl_now = logprobs[-1, rows[-1].anchor][None]
        kl_initial = kl_now.detach() if kl_initial is None else kl_initial
        loss = (
            nll.mean()
            + hparams.kl_factor * F.kl_div(kl_initial, kl_now, log_target=True, reduction="batchmean")
            + hparams.v_weight_decay * delta.norm() / initial.norm() ** 2
        )
        if loss < CONVERGED or step == hparams.v_num_grad_steps:
            break
        loss.backward()
        optimizer.step()
        if delta.norm() > limit:
            delta.data *= limit / delta.norm()
    return PlainValue(initial, delta.detach(), step)


def _rows(loaded: LoadedModel, fact: FactLike, prefixes: Sequence[str]) -> list[Row]:
    tokenizer = loaded.tokenizer
    rows = [target_row(tokenizer, fact.prompt, fact.target_new, fact.subject, prefix) for prefix in prefixes]
    anchor = subject_row(tokenizer, f"{fact.subject} is a", fact.subject).anchor
    return [*rows, Row(ids=tuple(tokenizer(f"{fact.subject} is a")["input_ids"]), anchor=anchor)]


def _mean_key(loaded: LoadedModel, rows: Sequence[Row], layer: int) -> Tensor:
    keys, _ = _seen(loaded, rows, loaded.mlp_out(layer))
    mean: Tensor = (keys[0] + keys[1:].mean(0)) / 2
    return mean


def _nll(logprobs: Tensor, row: Row) -> Tensor:
    nll: Tensor = -logprobs[list(row.reads), list(row.targets)].mean()
    return nll


def _right_padded(loaded: LoadedModel, rows: Sequence[Row]) -> dict[str, Tensor]:
    width = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), width), loaded.pad_token_id)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        mask[index, : len(row.ids)] = 1
    return {"input_ids": ids.to(loaded.device), "attention_mask": mask.to(loaded.device)}


def _seen(loaded: LoadedModel, rows: Sequence[Row], module: Any) -> tuple[Tensor, Tensor]:
    """A module's input and output at the rows' anchors, [B, d] and [B, h]."""
    seen: list[Tensor] = []

    def look(_: Any, inputs: tuple[Tensor, ...], output: Any) -> None:
        for tensor in (inputs[0], output[0] if isinstance(output, tuple) else output):
            whole = tensor.reshape(len(rows), -1, tensor.shape[-1])
            seen.append(torch.stack([whole[index, row.anchor] for index, row in enumerate(rows)]))

    handle = module.register_forward_hook(look)
    with torch.no_grad():
        loaded.model(**_right_padded(loaded, rows))
    handle.remove()
    return seen[0], seen[1]


def _logits_with(loaded: LoadedModel, rows: Sequence[Row], module: Any, delta: Tensor) -> Tensor:
    def add(_: Any, __: Any, output: Any) -> Any:
        first = output[0] if isinstance(output, tuple) else output
        changed = first.reshape(len(rows), -1, first.shape[-1]).clone()
        for index, row in enumerate(rows):
            changed[index, row.anchor] += delta
        changed = changed.reshape(first.shape)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = module.register_forward_hook(add)
    try:
        logits: Tensor = loaded.model(**_right_padded(loaded, rows), use_cache=False).logits
    finally:
        handle.remove()
    return logits.float()
