"""Optimise the values of any number of facts: in chunks of alike length, as large as memory allows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from worker.editing.context import EditContext, FactLike
from worker.editing.hparams import ValueHparams
from worker.editing.progress import Step, Steps, numbered
from worker.editing.rows import FactRows, fact_rows
from worker.editing.values import optimise
from worker.errors import EditError
from worker.models.loaded import LoadedModel
from worker.models.memory import token_budget
from worker.models.suffix import SuffixPass
from worker.models.twin import twin_of

Result = TypeVar("Result")


WORTH = 0.25
"""How full a chunk is worth a step of its own, rather than to be padded for longer facts."""


@dataclass(frozen=True)
class Optimised:
    """One fact's outcome: the value [h] it starts from and the delta [h] that is to be added to it.

    keys, values: [T, d] and [T, h], the edited projection's input and output at the anchors of the T templates.
    All on the CPU, float32 (float64 for a model in float64).
    """

    initial: Tensor
    delta: Tensor
    keys: Tensor
    values: Tensor

    @property
    def target(self) -> Tensor:
        """v* = initial + delta, [h]."""
        return self.initial + self.delta


def optimise_all(
    context: EditContext,
    facts: Sequence[FactLike],
    prefixes: Sequence[str],
    layer: int,
    hparams: ValueHparams,
    *,
    at_mlp: bool,
) -> Steps[list[Optimised]]:
    """The optimised values of all facts at one layer, in their order.

    at_mlp: of the MLP's output (ROME) rather than of the residual stream after the layer (MEMIT). Raises EditError as
    in_chunks does.
    """
    loaded = context.loaded
    twin = twin_of(loaded, layer, context.compute_dtype)

    def compute(batch: Sequence[FactRows]) -> Steps[list[Optimised]]:
        return _chunk(loaded, twin, batch, layer, hparams, at_mlp=at_mlp)

    return (yield from in_chunks(loaded, facts, prefixes, loaded.layers - layer, compute))


def in_chunks(
    loaded: LoadedModel,
    facts: Sequence[FactLike],
    prefixes: Sequence[str],
    layers: int,
    compute: Callable[[Sequence[FactRows]], Steps[list[Result]]],
) -> Steps[list[Result]]:
    """What `compute` finds for each fact, in their order, given chunks of them for passes through `layers` blocks.

    A chunk for which the GPU's memory does not suffice is halved; raises EditError where one fact alone is too much.
    """
    batch = [_rows(loaded, fact, prefixes, index, len(facts)) for index, fact in enumerate(facts)]
    waiting = chunks(batch, token_budget(loaded, layers), loaded.context_length)
    done, found = 0, dict[int, Result]()
    while waiting:
        chunk = waiting.pop(0)
        optimised = None
        steps = compute([batch[index] for index in chunk])
        try:
            optimised = yield from numbered(steps, done, done + 1 + len(waiting))
        except torch.OutOfMemoryError:
            if len(chunk) == 1:
                raise _out_of_memory(chunk[0], len(facts)) from None
        if optimised is None:  # outside the handler, whose traceback holds on to the tensors
            torch.cuda.empty_cache()
            half = len(chunk) // 2
            waiting[:0] = [chunk[:half], chunk[half:]]
            continue
        found |= zip(chunk, optimised, strict=True)
        done += 1
    return [found[index] for index in range(len(facts))]


def chunks(batch: Sequence[FactRows], tokens: int, context: int) -> list[list[int]]:
    """Indices of the facts, those of alike length together, in chunks of at most `tokens` positions (or one fact).

    A chunk that is WORTH a step is not padded for the sake of a longer fact.
    context: what a padded row may be long; the longest prefix and the longest suffix may be different facts'.
    """
    order = sorted(range(len(batch)), key=lambda index: (batch[index].width, batch[index].column))
    found: list[list[int]] = []
    rows = column = width = 0
    for index in order:
        fact = batch[index]
        enough = fact.width > width and rows * width >= WORTH * tokens
        rows += len(fact.rows)
        column = max(column, fact.column)
        if not found or enough or rows * fact.width > tokens or column + fact.width > context:
            found.append([])
            rows, column = len(fact.rows), fact.column
        width = fact.width
        found[-1].append(index)
    return found


def _rows(loaded: LoadedModel, fact: FactLike, prefixes: Sequence[str], index: int, facts: int) -> FactRows:
    try:
        return fact_rows(loaded, fact, prefixes)
    except EditError as error:
        raise error if facts == 1 else error.of_fact(index) from None


def _chunk(
    loaded: LoadedModel,
    twin: LoadedModel,
    batch: Sequence[FactRows],
    layer: int,
    hparams: ValueHparams,
    *,
    at_mlp: bool,
) -> Steps[list[Optimised]]:
    suffix = SuffixPass(loaded, [row for fact in batch for row in fact.rows], layer, hparams.v_loss_layer, twin)
    keys, values = suffix.keys.cpu(), suffix.values.cpu()
    yield Step("key", 1, 1)
    initial, delta = yield from optimise(twin, suffix, batch, hparams, at_mlp=at_mlp)
    initial, delta = initial.cpu(), delta.cpu()
    found, at = [], 0
    for index, fact in enumerate(batch):
        templates = slice(at, at + fact.templates)
        found.append(Optimised(initial[index], delta[index], keys[templates].clone(), values[templates].clone()))
        at += len(fact.rows)
    return found


def _out_of_memory(index: int, facts: int) -> EditError:
    field = "prompt" if facts == 1 else f"facts[{index}].prompt"
    return EditError(
        "out-of-memory",
        field,
        "the GPU's memory does not suffice for this fact alone; shorten the prompt, or give fewer or shorter "
        "hparams.context_templates (or context_template_length_params)",
    )
