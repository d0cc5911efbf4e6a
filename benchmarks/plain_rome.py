"""ROME's loop as the paper's code has it: the whole model, every position, logits everywhere, at every step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from worker.editing.context import FactLike
from worker.editing.rank_one import RankOneHparams
from worker.editing.values import CONVERGED
from worker.models.loaded import LoadedModel
from worker.models.positions import Row, subject_row, target_row


@dataclass(frozen=True)
class PlainEdit:
    """u [d], the right vector [h], and how many optimiser steps were evaluated."""

    left: Tensor
    right: Tensor
    steps: int


def plain_rome(loaded: LoadedModel, fact: FactLike, prefixes: Sequence[str], hparams: RankOneHparams) -> PlainEdit:
    """ROME with C = I, written down step by step from the paper (section 3.1), without any economy."""
    (layer,) = hparams.layers
    tokenizer = loaded.tokenizer
    rows = [target_row(tokenizer, fact.prompt, fact.target_new, fact.subject, prefix) for prefix in prefixes]
    anchor = subject_row(tokenizer, f"{fact.subject} is a", fact.subject).anchor
    rows.append(Row(ids=tuple(tokenizer(f"{fact.subject} is a")["input_ids"]), anchor=anchor))
    keys, value = _keys_and_value(loaded, rows, layer)
    delta = torch.zeros_like(value, requires_grad=True)
    optimizer = torch.optim.Adam([delta], lr=hparams.v_lr)
    kl_initial: Tensor | None = None
    step = 0
    for step in range(1, hparams.v_num_grad_steps + 1):
        optimizer.zero_grad()
        logprobs = _logits_with(loaded, rows, layer, delta).log_softmax(-1)
        nll = torch.stack([_nll(logprobs[index], row) for index, row in enumerate(rows[:-1])])
        kl_now = logprobs[-1, anchor][None]
        kl_initial = kl_now.detach() if kl_initial is None else kl_initial
        loss = (
            nll.mean()
            + hparams.kl_factor * F.kl_div(kl_initial, kl_now, log_target=True, reduction="batchmean")
            + hparams.v_weight_decay * delta.norm() / value.norm() ** 2
        )
        if loss < CONVERGED or step == hparams.v_num_grad_steps:
            break
        loss.backward()
        optimizer.step()
        limit = hparams.clamp_norm_factor * value.norm()
        if delta.norm() > limit:
            delta.data *= limit / delta.norm()
    mean_key = keys[: len(prefixes)].mean(0)
    left = mean_key / mean_key.norm()
    return PlainEdit(left, delta.detach() / torch.dot(keys[0], left), step)


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


def _keys_and_value(loaded: LoadedModel, rows: Sequence[Row], layer: int) -> tuple[Tensor, Tensor]:
    seen: dict[str, Tensor] = {}

    def look(_: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        keys, values = (tensor.reshape(len(rows), -1, tensor.shape[-1]) for tensor in (inputs[0], output))
        seen["keys"] = torch.stack([keys[index, row.anchor] for index, row in enumerate(rows)])
        seen["value"] = values[0, rows[0].anchor].clone()

    handle = loaded.mlp_out(layer).register_forward_hook(look)
    with torch.no_grad():
        loaded.model(**_right_padded(loaded, rows))
    handle.remove()
    return seen["keys"], seen["value"]


def _logits_with(loaded: LoadedModel, rows: Sequence[Row], layer: int, delta: Tensor) -> Tensor:
    def add(_: Any, __: Any, output: Tensor) -> Tensor:
        changed = output.reshape(len(rows), -1, output.shape[-1]).clone()
        for index, row in enumerate(rows):
            changed[index, row.anchor] += delta
        return changed.reshape(output.shape)

    handle = loaded.mlp_out(layer).register_forward_hook(add)
    try:
        logits: Tensor = loaded.model(**_right_padded(loaded, rows), use_cache=False).logits
    finally:
        handle.remove()
    return logits.float()
