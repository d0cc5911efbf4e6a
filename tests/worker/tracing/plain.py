"""Causal tracing as the paper's words say it: one restored run at a time, whole model, hooks, no economy."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from service.contracts.traces import Kind
from worker.models.loaded import LoadedModel
from worker.tracing.asked import Asked


def plain_trace(
    loaded: LoadedModel, asked: Asked, noise: Tensor, kinds: Sequence[Kind], window: int
) -> tuple[float, Tensor, dict[Kind, Tensor]]:
    """P of the clean run, [S] of the corrupted ones, and by kind [T, L, S] of those restored."""
    clean, states = _states(loaded, asked, kinds)
    low = torch.tensor([_probability(loaded, asked, sample) for sample in noise])
    restored = {
        kind: torch.tensor(
            [
                [
                    [_restored(loaded, asked, sample, kind, states[kind], token, around) for sample in noise]
                    for around in at
                ]
                for token in range(len(asked.tokens))
            ]
        )
        for kind in kinds
        if (at := _windows(kind, loaded.layers, window))
    }
    return clean, low, restored


def module_of(loaded: LoadedModel, kind: Kind, layer: int) -> Any:
    """Where the states of a kind come out."""
    family = loaded.family
    return loaded.module({"hidden": family.layer, "mlp": family.mlp_out, "attn": family.attn_out}[kind], layer)


def _windows(kind: Kind, layers: int, window: int) -> list[range]:
    """The published code's: from l - window // 2, and window layers in all, as far as there are any."""
    if kind == "hidden":
        return [range(layer, layer + 1) for layer in range(layers)]
    return [range(max(0, at - window // 2), min(layers, at - (-window // 2))) for at in range(layers)]


def _states(loaded: LoadedModel, asked: Asked, kinds: Sequence[Kind]) -> tuple[float, dict[Kind, list[Tensor]]]:
    found: dict[Kind, list[Tensor]] = {kind: [] for kind in kinds}
    with ExitStack() as stack:
        for kind in kinds:
            for layer in range(loaded.layers):

                def look(output: Tensor, kind: Kind = kind) -> None:
                    found[kind].append(output.clone())

                stack.enter_context(_hook(module_of(loaded, kind, layer), look))
        return _probability(loaded, asked), found


def _restored(
    loaded: LoadedModel,
    asked: Asked,
    sample: Tensor,
    kind: Kind,
    states: Sequence[Tensor],
    token: int,
    layers: range,
) -> float:
    with ExitStack() as stack:
        for layer in layers:

            def put(output: Tensor, layer: int = layer) -> None:
                output[token] = states[layer][token]

            stack.enter_context(_hook(module_of(loaded, kind, layer), put))
        return _probability(loaded, asked, sample)


def _probability(loaded: LoadedModel, asked: Asked, sample: Tensor | None = None) -> float:
    def hide(output: Tensor) -> None:
        if sample is not None:
            output[asked.subject.start : asked.subject.stop] += sample

    with _hook(loaded.model.get_input_embeddings(), hide), torch.no_grad():
        logits = loaded.model(input_ids=torch.tensor([asked.row.ids]), use_cache=False).logits[0]
    logprobs = logits.double().log_softmax(-1)[list(asked.row.reads), list(asked.row.targets)]
    return float(logprobs.sum().exp())


@contextmanager
def _hook(module: Any, act: Any) -> Iterator[None]:
    """Lets `act` look at, or change, a copy of a module's output, [T, h] of its one row."""

    def hook(_: Any, __: Any, output: Any) -> Any:
        given = output[0] if isinstance(output, tuple) else output
        copied = given.clone()
        act(copied.view(-1, copied.shape[-1]))
        return (copied, *output[1:]) if isinstance(output, tuple) else copied

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
