"""Rows that begin alike, their common beginning run once: what a module takes and says at the rows' last tokens."""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from worker.models.hooks import Captured, captured
from worker.models.loaded import LoadedModel, precise
from worker.models.positions import Row


def common_start(rows: Sequence[Row]) -> int:
    """How many tokens all rows begin with, leaving at least one to each."""
    shortest = min(len(row.ids) for row in rows) - 1
    first = rows[0].ids
    return next((at for at in range(shortest) if any(row.ids[at] != first[at] for row in rows)), shortest)


@torch.no_grad()
def at_last_tokens(
    loaded: LoadedModel, rows: Sequence[Row], taking: nn.Module, saying: nn.Module | None
) -> tuple[Tensor, Tensor]:
    """What `taking` gets [B, d] and what `saying` gives [B, h] at each row's last token, float32 on the CPU.

    The pass ends at `saying`, or at `taking` where there is none, whose output is empty then. `saying` is no earlier.
    """
    common = common_start(rows) if len(rows) > 1 else 0
    cache = DynamicCache()
    if common:
        with loaded.reading(), captured(saying or taking, stop=True):
            ids = torch.tensor([rows[0].ids[:common]], device=loaded.device)
            loaded.trunk(input_ids=ids, cache=cache, use_cache=True)
        cache.batch_repeat_interleave(len(rows))
    lengths = torch.tensor([len(row.ids) - common for row in rows])
    with loaded.reading(), ExitStack() as stack:
        taken = stack.enter_context(captured(taking, stop=saying is None))
        said = None if saying is None else stack.enter_context(captured(saying, stop=True))
        loaded.trunk(**_rest(loaded, rows, common, lengths), cache=cache, use_cache=True)
    keys = _picked(taken, lengths, output=False)
    return keys, keys[:, :0] if said is None else _picked(said, lengths, output=True)


def _rest(loaded: LoadedModel, rows: Sequence[Row], common: int, lengths: Tensor) -> dict[str, Tensor]:
    width = int(lengths.max())
    ids = torch.full((len(rows), width), loaded.pad_token_id)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids) - common] = torch.tensor(row.ids[common:])
    mask = torch.cat([torch.ones(len(rows), common), torch.arange(width)[None] < lengths[:, None]], dim=1).long()
    positions = (common + torch.arange(width)).expand(len(rows), width)
    found = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    return {name: tensor.to(loaded.device) for name, tensor in found.items()}


def _picked(seen: Captured, lengths: Tensor, *, output: bool) -> Tensor:
    through = seen.output if output else seen.input
    whole = through.reshape(len(lengths), -1, through.shape[-1])  # opt's MLP has [B T, n]
    return precise(whole[torch.arange(len(lengths)), lengths - 1]).cpu()
