"""The keys that the head's edits were solved for, wherever the head has come from."""

import pytest
import torch

from tests.worker.engine.kit import Boot, Stand, dense_delta, random_delta
from worker.editing.delta import WeightDelta


def _keyed(stand: Stand, seed: int, *layers: int) -> WeightDelta:
    """A delta that was solved for as many keys as its seed says."""
    size = stand.resident.base_of_layer(0).shape[1]
    generator = torch.Generator().manual_seed(seed)
    keys = {layer: torch.randn(size, seed, generator=generator) for layer in layers}
    return WeightDelta(random_delta(stand.loaded, *layers, seed=seed).layers, keys)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_active_keys_are_those_of_the_heads_edits(boot: Boot, family: str) -> None:
    """They follow commits, rollbacks and restarts; an edit without keys has none."""
    stand = boot(family)
    size = stand.resident.base_of_layer(0).shape[1]
    deltas = [_keyed(stand, 2, 1, 2), dense_delta(stand.loaded, 1), _keyed(stand, 3, 1), _keyed(stand, 1, 2)]
    made = [stand.commit(delta) for delta in deltas]

    def check(layer: int, *expected: int) -> None:
        """Whose keys, in the order in which they were committed."""
        found = stand.history.active_keys(layer)
        assert found.dtype is torch.float32
        assert torch.equal(found, torch.cat([torch.empty(size, 0), *(deltas[i].keys[layer] for i in expected)], dim=1))

    check(1, 0, 2)
    check(2, 0, 3)
    check(3)
    stand.history.rollback(made[1].revision)
    check(1, 0)
    check(2, 0)
    stand.history.rollback(0)
    check(1)
    stand.history.rollback(made[2].revision)
    stand = boot(family)
    check(1, 0, 2)
    check(2, 0)
