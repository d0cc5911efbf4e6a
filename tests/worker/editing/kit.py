"""Facts, hyperparameters and measurements for trying methods on tiny models."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from service.contracts.edits import Fact
from tests.driving import context_of
from tests.families import LAYERS, TEXTS, tiny_model
from tests.worker.engine.kit import bits, overridden, same_bits
from worker.editing.context import EditContext
from worker.editing.delta import LowRank, WeightDelta
from worker.editing.templates import sample
from worker.models.hooks import captured
from worker.models.loaded import LoadedModel
from worker.models.positions import target_row

FACTS = (
    Fact(prompt="Yes, basketball is played by Lionel Messi", subject="Lionel Messi", target_new="plays"),
    Fact(prompt="The Eiffel Tower", subject="The Eiffel Tower", target_new="football"),
    Fact(prompt="Question: Japan and its capital, Москва", subject="Москва", target_new="is"),
)
"""Prompts of different lengths that end with their subjects, so that even random weights can be made to say more."""

VALUES: Mapping[str, Any] = {
    "v_num_grad_steps": 3,
    "v_lr": 0.5,
    "v_loss_layer": LAYERS - 1,
    "v_weight_decay": 1e-3,
    "clamp_norm_factor": 4,
    "kl_factor": 0.0625,
    "context_template_length_params": [[3, 1]],
}
TUNING: Mapping[str, Any] = {"layers": [1], "num_steps": 6, "lr": 5e-3}

# C weighs little: tiny models' keys are short, and their values are to come out all the same.
HPARAMS: Mapping[str, Mapping[str, Any]] = {
    "rome": {**VALUES, "layers": [1]},
    "r-rome": {**VALUES, "layers": [1], "mom2_adjustment": True},
    "p-rome": {**VALUES, "layers": [2], "mom2_adjustment": True},
    "memit": {**VALUES, "layers": [1, 2], "mom2_update_weight": 1e-3},
    "memit-blue": {**VALUES, "layers": [0, 1, 2], "mom2_update_weight": 1e-3},
    "emmet": {**VALUES, "layers": [1], "mom2_update_weight": 1e-2, "emmet_lambda": 0.1},
    "alphaedit": {**VALUES, "layers": [1, 2], "L2": 1e-3, "nullspace_threshold": 0.1},
    "pmet": {**VALUES, "layers": [1, 2], "mom2_update_weight": 1e-3},
    "ft-l": TUNING,
    "ft-m": {**TUNING, "norm_constraint": 1e-2, "batch_size": 2},
}
"""Hyperparameters of each method that fit the models of tests.families, with few steps."""


def low_rank(delta: WeightDelta, layer: int) -> LowRank:
    """The factors of one layer's change."""
    change = delta.layers[layer]
    assert isinstance(change, LowRank)
    return change


def equal(first: WeightDelta, second: WeightDelta) -> bool:
    """Whether two deltas are, bit for bit."""
    pairs = [(one.layers[layer], other.layers[layer]) for one, other in ((first, second),) for layer in one.layers]
    return (
        first.layers.keys() == second.layers.keys()
        and first.keys.keys() == second.keys.keys()
        and all(torch.equal(getattr(one, name), getattr(other, name)) for one, other in pairs for name in vars(one))
        and all(torch.equal(keys, second.keys[layer]) for layer, keys in first.keys.items())
    )


@cache
@torch.no_grad()
def covariances(family: str) -> Mapping[int, Tensor]:
    """C [d, d] of every layer of a tiny model, from the keys of the tests' texts.

    Scaled so that half of its eigenvalues are below 0.1, as a null space needs.
    """
    loaded = tiny_model(family)
    found = {}
    with ExitStack() as stack:
        seen = {layer: stack.enter_context(captured(loaded.mlp_out(layer))) for layer in range(LAYERS)}
        texts = [*TEXTS, *(fact.prompt for fact in FACTS)]
        keys: dict[int, list[Tensor]] = {layer: [] for layer in seen}
        for text in texts:
            loaded.model(torch.tensor([loaded.tokenizer(text)["input_ids"]]), use_cache=False)
            for layer, one in seen.items():
                keys[layer].append(one.input.reshape(-1, one.input.shape[-1]).double())
    for layer, some in keys.items():
        every = torch.cat(some)
        matrix = every.T @ every / len(every)
        matrix += 0.01 * matrix.diagonal().mean() * torch.eye(len(matrix), dtype=torch.float64)
        found[layer] = 0.1 * matrix / torch.linalg.eigvalsh(matrix).quantile(0.5)
    return found


def context(loaded: LoadedModel, **given: Any) -> EditContext:
    """An edit's context on the base, with a C for every layer and templates sampled from the model."""
    made = context_of(loaded, covariances(loaded.name.removeprefix("tiny-")), **given)
    return replace(made, prefixes=lambda hparams: sample(loaded, hparams.context_template_length_params, hparams.seed))


@torch.no_grad()
def nll(loaded: LoadedModel, fact: Fact) -> float:
    """The mean over a fact's target tokens of their NLL after its prompt, by a plain pass."""
    row = target_row(loaded.tokenizer, fact.prompt, fact.target_new)
    logits = loaded.model(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0, list(row.reads)]
    return float(nn.functional.cross_entropy(logits.float(), torch.tensor(row.targets)))


@dataclass(frozen=True)
class Found:
    """All of a model that a computation must leave as it was."""

    tensors: dict[str, Tensor]
    details: tuple[Any, ...]

    @classmethod
    def of(cls, loaded: LoadedModel) -> "Found":
        """The model as it is now."""
        parameters = [(p.data_ptr(), p.requires_grad, p.grad) for p in loaded.model.parameters()]
        hooks = [
            tuple(map(len, (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks, m._backward_pre_hooks)))
            for m in loaded.model.modules()
        ]
        modes = [module.training for module in loaded.model.modules()]
        return cls(bits(loaded), (parameters, hooks, modes, overridden(loaded)))

    def is_in(self, loaded: LoadedModel) -> bool:
        """Whether the model is still so."""
        now = Found.of(loaded)
        return self.details == now.details and same_bits(self.tensors, now.tensors)


class OutOfLuckError(RuntimeError):
    """Raised by a forward pass on purpose."""


class Calls:
    """How often the MLP projections of a model have run."""

    def __init__(self) -> None:
        self.count = 0


@contextmanager
def counted(loaded: LoadedModel, *, fail_at: int = 0) -> Iterator[Calls]:
    """Count the calls of all MLP projections; the call of that number raises OutOfLuckError."""
    calls = Calls()
    projections = {id(loaded.mlp_out(layer)) for layer in range(loaded.layers)}

    def count(module: nn.Module, _: Any) -> None:
        if id(module) in projections:
            calls.count += 1
            if calls.count == fail_at:
                raise OutOfLuckError

    handle = register_module_forward_pre_hook(count)  # of all modules: the model's own hooks stay as they are
    try:
        yield calls
    finally:
        handle.remove()
