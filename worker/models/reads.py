"""What a model says at chosen positions of padded rows: log-probabilities and ranks of targets, and its own choice."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.models.batch import align, read_positions
from worker.models.loaded import LoadedModel
from worker.models.memory import logit_pieces
from worker.models.positions import Row


@dataclass(frozen=True)
class Read:
    """At a row's reads, [M]: log-probability (nats) and rank of each target token, and the argmax tokens."""

    logprobs: Tensor
    ranks: Tensor
    argmax: Tensor


@torch.no_grad()
def read_rows(loaded: LoadedModel, rows: Sequence[Row]) -> list[Read]:
    """Run all rows as one batch under the view in force; one Read a row."""
    batch = align(loaded, rows)
    with loaded.reading():
        hidden = loaded.trunk(**batch.inputs(), use_cache=False).last_hidden_state
        found = _judged(loaded, hidden[read_positions(rows, batch)], [token for row in rows for token in row.targets])
    reads, at = [], 0
    for row in rows:
        span = slice(at, at + len(row.reads))
        reads.append(Read(found.logprobs[span], found.ranks[span], found.argmax[span]))
        at = span.stop
    return reads


def _judged(loaded: LoadedModel, hidden: Tensor, targets: Sequence[int]) -> Read:
    """Of the trunk's output [M, h], piece by piece: logits are large."""
    pieces = []
    for piece in logit_pieces(loaded, len(hidden)):
        logprobs = loaded.logits(hidden[piece]).log_softmax(-1)
        wanted = torch.tensor(targets[piece], device=logprobs.device)[:, None]
        of_target = logprobs.gather(1, wanted)
        pieces.append((of_target[:, 0].cpu(), (logprobs > of_target).sum(-1).cpu() + 1, logprobs.argmax(-1).cpu()))
    return Read(*(torch.cat(parts) for parts in zip(*pieces, strict=True)))
