"""Causal tracing of one answer: how much of it comes back with each state (Meng et al. 2022, section 2.1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from service.contracts.traces import Kind, Traced, TraceRequest
from worker.editing.progress import Step, Steps, numbered, within
from worker.models.loaded import LoadedModel
from worker.models.memory import token_budget
from worker.tracing.asked import Asked, ask
from worker.tracing.noise import draw, own_subjects, spread
from worker.tracing.restoring import Restoring, restorations
from worker.tracing.runs import CleanRun, Runs

PAPER_WINDOW, PAPER_LAYERS = 10, 48
"""Layers that the paper restores together, of as many as GPT-2 XL has."""


@dataclass(frozen=True)
class Found:
    """What a trace found of S samples at N tokens and L layers.

    low: [S], the corrupted runs' probabilities; restored: of each kind the restored runs', [N, L, S].
    """

    asked: Asked
    clean: CleanRun
    tokens: Sequence[int]
    low: Tensor
    restored: Mapping[Kind, Tensor]
    sigma: float
    window: int


def trace(loaded: LoadedModel, request: TraceRequest) -> Steps[Found]:
    """Trace what is asked under the view in force."""
    return within(loaded.reading, _trace(loaded, request))


def _trace(loaded: LoadedModel, request: TraceRequest) -> Steps[Found]:
    asked = ask(loaded, request.prompt, request.subject, request.target)
    runs = Runs(loaded, asked)
    sigma = spread(loaded, request.noise_subjects or own_subjects())
    hidden_size = int(loaded.model.get_input_embeddings().weight.shape[1])
    noise = draw(request.samples, len(asked.subject), hidden_size, request.noise * sigma, request.seed)
    clean, tokens = runs.clean(request.kinds), traced_tokens(asked, request.tokens)
    yield Step("clean", 1, 1)
    window = request.window or default_window(loaded.layers)
    wanted = [each for kind in request.kinds for each in restorations(kind, loaded.layers, window)]
    size = max(1, token_budget(loaded, loaded.layers) // len(asked.row.ids))
    groups = [noise[begin : begin + size] for begin in range(0, len(noise), size)]
    low, restored = list[Tensor](), list[Tensor]()
    for number, group in enumerate(groups):
        corrupted = runs.corrupted(group)
        restoring = Restoring(loaded, asked, clean, corrupted, wraps_output=runs.wraps_output)
        found = []
        for index, token in enumerate(tokens):
            done = number * len(tokens) + index
            found.append((yield from numbered(restoring.at(token, wanted), done, len(groups) * len(tokens))))
        low.append(corrupted.probabilities)
        restored.append(torch.stack(found))
    by_kind = torch.cat(restored, dim=-1).reshape(len(tokens), len(request.kinds), loaded.layers, -1).unbind(1)
    kinds = dict(zip(request.kinds, by_kind, strict=True))
    return Found(asked, clean, tokens, torch.cat(low), kinds, sigma, window)


def default_window(layers: int) -> int:
    """The paper's share of the layers, and never more than its 10."""
    return max(1, min(PAPER_WINDOW, round(PAPER_WINDOW * layers / PAPER_LAYERS)))


def traced_tokens(asked: Asked, which: Traced) -> Sequence[int]:
    """The tokens at which states are restored."""
    match which:
        case Traced.ALL:
            return range(len(asked.tokens))
        case Traced.SUBJECT:
            return asked.subject
        case Traced.LAST_SUBJECT:
            return asked.subject[-1:]
