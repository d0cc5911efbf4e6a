"""Restored runs: corrupted ones, into which clean states are put at one token and some layers.

A state that is put back at token t and layer l moves only t itself in that layer, and in those above only the tokens
from t on. So a run begins there with what the corrupted run has computed, and sees its keys and values before t. Runs
of one token are rows of one batch; each joins it at its own first layer.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from service.contracts.traces import Kind
from worker.editing.progress import Step, Steps, mapped
from worker.models.blocks import Blocks, cache_of
from worker.models.hooks import captured, placed
from worker.models.loaded import LoadedModel
from worker.models.memory import MOST_TOKENS, token_budget
from worker.tracing.asked import Asked
from worker.tracing.runs import CleanRun, CorruptedRuns, answer_probabilities, ones_and_positions, place

SEEN_TOKENS = 4
"""How many times as many keys and values a batch may hold as tokens that it runs: it keeps little else of them."""

STRETCH = 8
"""Layers that a batch goes through in one step."""


@dataclass(frozen=True)
class Restoration:
    """States of a kind, put back at the layers `first` to `last`, which surround `layer`."""

    kind: Kind
    layer: int
    first: int
    last: int


def restorations(kind: Kind, layers: int, window: int) -> list[Restoration]:
    """One for each layer: that layer alone for hidden states, else a window around it (ROME, section 2.2)."""
    if kind is Kind.HIDDEN:
        return [Restoration(kind, layer, layer, layer) for layer in range(layers)]
    before, after = window // 2, (window - 1) // 2
    return [Restoration(kind, layer, max(0, layer - before), min(layers - 1, layer + after)) for layer in range(layers)]


Row = tuple[Restoration, int]
"""A restored run: what is put back, and into which of the corrupted runs."""


class Restoring:
    """Restored runs of one prompt, over corrupted runs that are there."""

    def __init__(
        self, loaded: LoadedModel, asked: Asked, clean: CleanRun, corrupted: CorruptedRuns, *, wraps_output: bool
    ) -> None:
        self._loaded = loaded
        self._asked = asked
        self._clean = clean
        self._corrupted = corrupted
        self._wraps_output = wraps_output

    def at(self, token: int, wanted: Sequence[Restoration]) -> Steps[Tensor]:
        """The answer's probabilities [len(wanted), S] with each of the restorations at a token; counts layers.

        Before the subject nothing is corrupted, so there is nothing to restore.
        """
        samples = len(self._corrupted.probabilities)
        if token < self._asked.subject.start:
            return self._corrupted.probabilities.expand(len(wanted), samples)
        order = sorted(range(len(wanted)), key=lambda index: wanted[index].first)
        rows = [(wanted[index], sample) for index in order for sample in range(samples)]
        found: list[Tensor] = []
        chunks = self._chunks(rows, token)
        for done, chunk in enumerate(chunks):
            share = partial(_share, done=done, of=len(chunks))
            found.append((yield from mapped(self._run(chunk, token), share)))
        probabilities = torch.cat(found).reshape(len(wanted), samples)
        return probabilities[torch.argsort(torch.tensor(order))]

    def _chunks(self, rows: Sequence[Row], token: int) -> list[Sequence[Row]]:
        """As many rows as are worth one batch, and as memory has room for."""
        loaded, width = self._loaded, len(self._asked.row.ids)
        most = MOST_TOKENS.get(loaded.device.type, MOST_TOKENS["cpu"])
        seen = SEEN_TOKENS * token_budget(loaded, loaded.layers)
        size = max(1, min(most // (width - token), seen // width))
        return [rows[begin : begin + size] for begin in range(0, len(rows), size)]

    def _run(self, rows: Sequence[Row], token: int) -> Steps[Tensor]:
        """[B]: rows by their first layers, where they join."""
        firsts = sorted({restoration.first for restoration, _ in rows})
        states = self._corrupted.entering[0][:0, token:]
        for first, upto in zip(firsts, [*firsts[1:], self._loaded.layers - 1], strict=True):
            begin, end = len(states), sum(restoration.first <= first for restoration, _ in rows)
            states = torch.cat([states, self._joining(rows[begin:end], token, first)])
            for layer in range(first + 1, upto + 1, STRETCH):
                layers = range(layer, min(layer + STRETCH, upto + 1))
                states = self._through(states, rows[:end], token, layers)
                yield Step("restore", layers.stop, self._loaded.layers)
        yield Step("restore", self._loaded.layers, self._loaded.layers)
        return answer_probabilities(self._loaded, self._asked, states, token)

    def _joining(self, rows: Sequence[Row], token: int, first: int) -> Tensor:
        """What leaves the first layer of these rows, which only the token itself has to be run for."""
        samples = [sample for _, sample in rows]
        entering, leaving = self._corrupted.entering[first], self._corrupted.entering[first + 1]
        at_token = self._through(entering[samples, token : token + 1], rows, token, range(first, first + 1))
        return torch.cat([at_token, leaving[samples, token + 1 :]], dim=1)

    @torch.no_grad()
    def _through(self, states: Tensor, rows: Sequence[Row], token: int, layers: range) -> Tensor:
        """What leaves these layers, [B, T'', h], for what enters them; after the last of all it is normed."""
        loaded = self._loaded
        samples = torch.tensor([sample for _, sample in rows], device=states.device)
        prefix = [
            (keys[samples, :, :token], values[samples, :, :token]) if layer in layers else None
            for layer, (keys, values) in enumerate(self._corrupted.prefix)
        ]
        given = states, *ones_and_positions(states, token), cache_of(prefix, states, token)
        blocks = Blocks(loaded, layers[0], layers[-1], self._wraps_output)
        with ExitStack() as stack:
            for (kind, layer), indices in _by_place(rows, layers).items():
                value = self._clean.states[kind][layer][token]
                stack.enter_context(placed(place(loaded, kind, layer), value, torch.tensor(indices), len(rows)))
            if layers[-1] == loaded.layers - 1:
                return blocks.run(*given)
            leaving = stack.enter_context(captured(place(loaded, Kind.HIDDEN, layers[-1]), stop=True))
            blocks.run(*given)
        return leaving.output


def _by_place(rows: Sequence[Row], layers: range) -> Mapping[tuple[Kind, int], list[int]]:
    """Which rows have a state put back at which module."""
    found: dict[tuple[Kind, int], list[int]] = defaultdict(list)
    for index, (restoration, _) in enumerate(rows):
        for layer in range(max(restoration.first, layers.start), min(restoration.last + 1, layers.stop)):
            found[restoration.kind, layer].append(index)
    return found


def _share(step: Step, done: int, of: int) -> Step:
    """A step of one of several chunks, counted so that all of them make up one."""
    return replace(step, step=(done * step.steps + step.step) // of)
