"""A view gives each row of a batch the numbers of a model that has its weights installed."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.families import CONFIGS, tiny_model
from tests.worker.engine.kit import bits, overridden, random_delta, same_bits
from worker.engine.resident import Resident
from worker.engine.state import State
from worker.models.loaded import LoadedModel
from worker.models.view import Weights


def _ids(loaded: LoadedModel, rows: int) -> Tensor:
    return torch.randint(2, loaded.config.vocab_size, (rows, 9), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def _logits(loaded: LoadedModel, ids: Tensor) -> Tensor:
    logits: Tensor = loaded.model(input_ids=ids, use_cache=False).logits
    return logits


def _states(resident: Resident) -> tuple[Weights, Weights, Weights]:
    first, second = random_delta(resident.loaded, 1), random_delta(resident.loaded, 2, 3, seed=1)
    return {}, State.fold(resident, [first]).weights, State.fold(resident, [first, second]).weights


def _installed_logits(resident: Resident, ids: Tensor, rows: Sequence[Weights]) -> Tensor:
    found = []
    for row, weights in enumerate(rows):
        resident.install(1, weights)
        found.append(_logits(resident.loaded, ids)[row])
    return torch.stack(found)


@pytest.mark.parametrize("head", [0, 1, 2])
@pytest.mark.parametrize("family", CONFIGS)
def test_each_row_sees_its_own_weights(family: str, head: int) -> None:
    loaded = tiny_model(family)
    resident = Resident(loaded)
    base, one, two = states = _states(resident)
    rows = [one, base, two, one, base]
    ids = _ids(loaded, 1).expand(len(rows), -1)
    expected = _installed_logits(resident, ids, rows)
    resident.install(1, states[head])
    before = bits(loaded)
    with resident.view(rows):
        found = _logits(loaded, ids)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert min(float((expected[a] - expected[b]).abs().max()) for a, b in ((0, 1), (1, 2), (0, 2))) > 1e-2
    assert overridden(loaded) == []
    assert same_bits(before, bits(loaded))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_one_state_holds_for_every_batch_and_to_the_last_bit(family: str) -> None:
    loaded = tiny_model(family)
    resident = Resident(loaded)
    states = _states(resident)
    for rows in (1, 3):
        ids = _ids(loaded, rows)
        for weights in states:
            resident.install(1, weights)
            expected = _logits(loaded, ids)
            resident.install(1, states[1])
            with resident.view([weights]):
                assert torch.equal(_logits(loaded, ids), expected)
            with resident.view([weights] * rows):
                assert torch.equal(_logits(loaded, ids), expected)


def test_the_installed_state_needs_no_override() -> None:
    resident = Resident(tiny_model("llama"))
    _, one, _ = _states(resident)
    for weights in (one, {}):
        resident.install(1, weights)
        with resident.view([weights, weights]):
            assert overridden(resident.loaded) == []


def test_views_nest() -> None:
    resident = Resident(tiny_model("gpt2"))
    _, one, two = _states(resident)
    ids = _ids(resident.loaded, 2)
    with resident.view([one]):
        outer = _logits(resident.loaded, ids)
        with resident.view([two]):
            inner = _logits(resident.loaded, ids)
        assert torch.equal(_logits(resident.loaded, ids), outer)
    assert not torch.equal(inner, outer)
    assert overridden(resident.loaded) == []


def test_nothing_is_left_behind_by_an_error() -> None:
    resident = Resident(tiny_model("gpt2"))
    base, one, two = _states(resident)
    before = bits(resident.loaded)

    def fail() -> None:
        with resident.view([base, one, two]):
            assert overridden(resident.loaded)
            raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        fail()
    assert overridden(resident.loaded) == []
    assert same_bits(before, bits(resident.loaded))


def test_a_batch_of_another_size_is_refused() -> None:
    resident = Resident(tiny_model("llama"))
    base, one, _ = _states(resident)
    with resident.view([base, one]), pytest.raises(ValueError, match="view of 2 rows met a batch of 3"):
        _logits(resident.loaded, _ids(resident.loaded, 3))
    assert overridden(resident.loaded) == []
