"""The clean run, whose states are put back, and corrupted runs, into which they are put."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from service.contracts.traces import Kind
from worker.models.blocks import Blocks, KeysValues
from worker.models.hooks import Captured, captured
from worker.models.loaded import LoadedModel
from worker.models.memory import logit_pieces
from worker.tracing.asked import Asked


@dataclass(frozen=True)
class CleanRun:
    """What the model says when it sees the prompt as it is.

    probability: of the answer; top: whether each of its tokens is the likeliest.
    states: of each kind and layer what is put back, [T, h] for the prompt's T tokens.
    """

    probability: float
    top: bool
    states: Mapping[Kind, Sequence[Tensor]]


@dataclass(frozen=True)
class CorruptedRuns:
    """What S runs with noise on the subject's embeddings have computed, for all T' tokens of prompt and answer.

    probabilities: [S], of the answer. entering: of each layer what enters it, [S, T', h], and last what leaves the
    trunk, normed; prefix: of each layer its keys and values.
    """

    probabilities: Tensor
    entering: Sequence[Tensor]
    prefix: Sequence[KeysValues]


class Runs:
    """Runs of one prompt through all blocks."""

    def __init__(self, loaded: LoadedModel, asked: Asked) -> None:
        self._loaded = loaded
        self._asked = asked

    @torch.no_grad()
    def clean(self, kinds: Sequence[Kind]) -> CleanRun:
        """Run the prompt as it is, and keep the states of these kinds."""
        loaded, asked = self._loaded, self._asked
        layers = range(loaded.layers)
        with ExitStack() as stack:
            seen = {
                kind: [stack.enter_context(captured(place(loaded, kind, layer))) for layer in layers] for kind in kinds
            }
            hidden = self._run(self._embedded(None), DynamicCache())
        width, length = len(asked.row.ids), len(asked.tokens)
        states = {kind: [of_layer.output.reshape(width, -1)[:length] for of_layer in seen[kind]] for kind in kinds}
        logprobs = loaded.logits(hidden[0, list(asked.row.reads)]).log_softmax(-1)
        wanted = torch.tensor(asked.row.targets, device=logprobs.device)
        probability = float(logprobs.gather(1, wanted[:, None]).sum().exp())
        return CleanRun(probability, bool((logprobs.argmax(-1) == wanted).all()), states)

    @torch.no_grad()
    def corrupted(self, noise: Tensor) -> CorruptedRuns:
        """Run the prompt once for each sample of the noise, [S, n, h], added to the subject's n token embeddings."""
        cache = DynamicCache()
        entering = self._embedded(noise)
        with ExitStack() as stack:
            blocks = [place(self._loaded, Kind.HIDDEN, layer) for layer in range(self._loaded.layers - 1)]
            seen = [stack.enter_context(captured(block)) for block in blocks]
            hidden = self._run(entering, cache)
        return CorruptedRuns(
            probabilities=answer_probabilities(self._loaded, self._asked, hidden),
            entering=[entering, *(of_layer.output for of_layer in seen), hidden],
            prefix=[(layer.keys, layer.values) for layer in cache.layers],
        )

    @property
    def wraps_output(self) -> bool:
        """Whether a block's output is the first of a tuple."""
        return self._entered(None).wraps_output

    def _embedded(self, noise: Tensor | None) -> Tensor:
        """What enters the first block, [S, T', h]."""
        return self._entered(noise).input

    @torch.no_grad()
    def _entered(self, noise: Tensor | None) -> Captured:
        loaded, asked = self._loaded, self._asked
        ids = torch.tensor([asked.row.ids] * (1 if noise is None else len(noise)), device=loaded.device)
        with captured(place(loaded, Kind.HIDDEN, 0), stop=True) as first, ExitStack() as stack:
            if noise is not None:
                stack.enter_context(_noisy(loaded.model.get_input_embeddings(), noise, asked.subject))
            loaded.trunk(input_ids=ids, use_cache=False)
        return first

    def _run(self, entering: Tensor, cache: DynamicCache) -> Tensor:
        blocks = Blocks(self._loaded, 0, self._loaded.layers - 1, self.wraps_output)
        return blocks.run(entering, *ones_and_positions(entering, 0), cache)


def ones_and_positions(entering: Tensor, before: int) -> tuple[Tensor, Tensor]:
    """The attention mask and the positions of rows [B, T, h] without padding that follow `before` tokens."""
    rows, width = entering.shape[:2]
    mask = torch.ones(rows, before + width, dtype=torch.long, device=entering.device)
    return mask, torch.arange(before, before + width, device=entering.device).expand(rows, -1)


def place(loaded: LoadedModel, kind: Kind, layer: int) -> nn.Module:
    """The module whose output the states of a kind are."""
    family = loaded.family
    path = {Kind.HIDDEN: family.layer, Kind.MLP: family.mlp_out, Kind.ATTN: family.attn_out}[kind]
    module: nn.Module = loaded.module(path, layer)
    return module


def answer_probabilities(loaded: LoadedModel, asked: Asked, hidden: Tensor, begin: int = 0) -> Tensor:
    """The answer's probability in each row, [B] float64 on the CPU, from the trunk's output [B, T'', h].

    begin: the token that the output begins with.
    """
    columns = [at - begin for at in asked.row.reads]
    read = hidden[:, columns].flatten(0, 1)
    wanted = torch.tensor(asked.row.targets, device=hidden.device).repeat(len(hidden))
    found = [
        loaded.logits(read[piece]).log_softmax(-1).gather(1, wanted[piece, None])[:, 0]
        for piece in logit_pieces(loaded, len(read))
    ]
    return torch.cat(found).double().reshape(len(hidden), -1).sum(1).exp().cpu()


@contextmanager
def _noisy(embeddings: nn.Module, noise: Tensor, subject: range) -> Iterator[None]:
    def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        moved = output.clone()
        moved[:, subject.start : subject.stop] += noise.to(moved)
        return moved

    handle = embeddings.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
