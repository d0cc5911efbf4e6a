"""A tiny model with a ledger, a lease and blobs, as a worker has them."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from redis import Redis
from torch import Tensor

from service.contracts.generate import Continuation, Sampling
from service.contracts.revisions import Revision
from service.edits import Edits
from service.keys import Keys
from service.ledger import Ledger
from service.origin import ORIGIN
from tests.service.stand_in import outcome, queue_edit
from worker.editing.delta import Change, Dense, LowRank, WeightDelta
from worker.engine.blobs import BlobStore
from worker.engine.history import History
from worker.engine.mirror import Mirror
from worker.engine.resident import Resident
from worker.engine.row import Wanted
from worker.models.loaded import LoadedModel
from worker.models.view import Weights

TOKEN = "1:tests"


def noting_requests(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The request that each line of the log is about, as lines come."""
    named: list[str] = []

    def note(_: logging.LogRecord) -> bool:
        named.append(ORIGIN.get().request_id)
        return True

    caplog.handler.addFilter(note)
    return named


def random_delta(loaded: LoadedModel, *layers: int, seed: int = 0, rank: int = 1, scale: float = 0.3) -> WeightDelta:
    """A seeded delta of some layers, large enough to change what the model says."""
    generator = torch.Generator().manual_seed(seed)
    shape = loaded.mlp_out(0).weight.shape
    rows, columns = reversed(shape) if loaded.family.in_out else shape

    def draw(length: int) -> Tensor:
        return scale * torch.randn(length, rank, generator=generator)

    return WeightDelta({layer: LowRank(draw(rows), draw(columns)) for layer in layers or (1,)})


def dense_delta(loaded: LoadedModel, *layers: int, seed: int = 0, scale: float = 0.05) -> WeightDelta:
    """A seeded delta without factors, as fine-tuning would find it."""
    generator = torch.Generator().manual_seed(seed)
    shape = loaded.mlp_out(0).weight.shape
    size = tuple(reversed(shape)) if loaded.family.in_out else tuple(shape)
    return WeightDelta({layer: Dense(scale * torch.randn(size, generator=generator)) for layer in layers or (1,)})


def wanted(prompt: str, revision: int, weights: Weights, length: int, **sampling: Any) -> Wanted:
    """A continuation of so many tokens, greedy unless the sampling says otherwise."""
    return Wanted(prompt, revision, weights, Sampling(max_new_tokens=length, **sampling))


def timeless(side: Continuation) -> Continuation:
    """All of a continuation but how long it took."""
    return side.model_copy(update={"seconds": 0.0})


def same(found: Continuation, expected: Continuation) -> bool:
    """Whether two continuations say the same, with the same certainty but for rounding."""
    bare = {"logprobs": (), "top_logprobs": None}
    if timeless(found).model_copy(update=bare) != timeless(expected).model_copy(update=bare):
        return False
    return all(abs(one - other) < 1e-4 for one, other in zip(found.logprobs, expected.logprobs, strict=True))


def low_rank(change: Change) -> LowRank:
    """The change, which has factors."""
    assert isinstance(change, LowRank)
    return change


def bits(loaded: LoadedModel) -> dict[str, Tensor]:
    """A copy of everything that the model holds."""
    return {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}


def same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two copies agree to the last bit."""
    return first.keys() == second.keys() and all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def live_checksum(loaded: LoadedModel) -> str:
    """The checksum of the weights that lie in memory, whatever anybody believes of them."""
    return Resident(loaded).base_checksum


def overridden(loaded: LoadedModel) -> list[str]:
    """The modules whose forward is not their own."""
    return [name for name, module in loaded.model.named_modules() if "forward" in module.__dict__]


def surroundings(loaded: LoadedModel) -> dict[str, Any]:
    """What a computation must leave as it was found, beside the bits: hooks, overrides, gradients, dtypes, modes."""
    modules = list(loaded.model.modules())
    return {
        "hooks": [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules],
        "overridden": overridden(loaded),
        "parameters": [(n, p.dtype, p.requires_grad, p.grad) for n, p in loaded.model.named_parameters()],
        "training": [module.training for module in modules],
    }


class Stand:
    """One worker's engine on a real Redis: the lease is held, the history booted."""

    def __init__(self, redis: Redis, keys: Keys, loaded: LoadedModel, folder: Path, token: str = TOKEN) -> None:
        client: Any = redis
        client.set(keys.lease, token)
        self.redis = client
        self.keys = keys
        self.loaded = loaded
        self.blobs_folder = folder / "blobs"
        self.ledger = Ledger(redis, keys)
        self.edits = Edits(redis, keys)
        self.resident = Resident(loaded)
        self.mirror = Mirror(self.blobs_folder, redis, keys)
        self.history = History(self.resident, self.ledger, BlobStore(self.blobs_folder), token, mirror=self.mirror)
        self.history.boot()

    def running_edit(self) -> str:
        """The id of an edit that has been taken up."""
        edit_id = queue_edit(self.edits).id
        assert self.edits.take_up(edit_id)
        return edit_id

    def commit(self, delta: WeightDelta, edit_id: str | None = None) -> Revision:
        """Commit a delta on the head, as the outcome of a running edit."""
        state = self.history.state.plus(delta)
        return self.history.commit(edit_id or self.running_edit(), self.resident.revision, delta, state, outcome())

    def state(self) -> tuple[Any, ...]:
        """Everything that a commit may change: the ledger, the weights, the revision that is served."""
        return self.ledger.entries(), live_checksum(self.loaded), self.resident.revision


Boot = Callable[..., Stand]
"""Starts an engine with a model of a family and a dtype."""
