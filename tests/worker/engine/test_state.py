"""A state is the base plus deltas, the same to the last bit however a machine sums; a view of it is not touched."""

import pytest
import torch
from torch import Tensor

from tests.families import tiny_model
from tests.worker.engine.kit import dense_delta, overridden, random_delta
from worker.editing.delta import Dense, LowRank, WeightDelta, joined
from worker.engine.resident import Resident
from worker.engine.state import State
from worker.models.loaded import LoadedModel
from worker.models.view import Weights


@pytest.mark.usefixtures("_threads")
def test_a_state_is_the_same_with_one_thread_and_with_two() -> None:
    checksums = set()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        resident = Resident(tiny_model("llama", torch.bfloat16))
        deltas = [random_delta(resident.loaded, 0, 1, seed=seed, rank=40) for seed in range(3)]
        checksums.add(_bits(State.fold(resident, [*deltas, dense_delta(resident.loaded, 1, 2)])))
    assert len(checksums) == 1


def _bits(state: State) -> tuple[tuple[int, bytes], ...]:
    return tuple((layer, total.total().numpy().tobytes()) for layer, total in sorted(state.sums.items()))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_what_is_added_one_by_one_is_what_is_folded_at_once(family: str) -> None:
    loaded = tiny_model(family)
    resident = Resident(loaded)
    deltas = [random_delta(loaded, 1, 3), dense_delta(loaded, 1, 2, seed=1), random_delta(loaded, 1, seed=2, rank=3)]
    state = State(resident, {})
    for count, delta in enumerate(deltas, 1):
        before = _bits(state)
        grown = state.plus(delta)
        assert _bits(state) == before, "a state never changes"
        state = grown
        assert _bits(state) == _bits(State.fold(resident, deltas[:count]))
    for layer, total in state.sums.items():
        changes = [delta.layers[layer].dense() for delta in deltas if layer in delta.layers]
        torch.testing.assert_close(total.total().float(), torch.stack(changes).sum(0), rtol=1e-5, atol=1e-6)
    assert set(state.weights) == {resident.name_of(layer) for layer in (1, 2, 3)}


def test_a_joined_delta_says_what_its_parts_say_in_order() -> None:
    loaded = tiny_model("gpt2")
    resident = Resident(loaded)
    parts = [random_delta(loaded, 1, seed=1), random_delta(loaded, 1, 2, seed=2), dense_delta(loaded, 2, seed=3)]
    keys = [torch.randn(128, count) for count in (1, 2)]
    parts[0] = WeightDelta(parts[0].layers, {1: keys[0]})
    parts[1] = WeightDelta(parts[1].layers, {1: keys[1]})
    whole = joined(parts)
    assert isinstance(whole.layers[1], LowRank)
    assert isinstance(whole.layers[2], Dense)
    assert whole.keys.keys() == {1}, "what has no keys has none"
    assert torch.equal(whole.keys[1], torch.cat(keys, dim=1))
    sequential, at_once = State.fold(resident, parts).sums, State.fold(resident, [whole]).sums
    assert sequential.keys() == at_once.keys()
    for layer, total in sequential.items():
        torch.testing.assert_close(at_once[layer].total(), total.total(), rtol=1e-6, atol=1e-6)
    alone = joined(parts[:1])
    assert torch.equal(alone.layers[1].dense(), parts[0].layers[1].dense())


def test_a_sum_beyond_the_dtype_is_not_finite() -> None:
    resident = Resident(tiny_model("llama", torch.float16))
    delta = random_delta(resident.loaded, 1, scale=300.0)
    assert delta.is_finite()
    assert not State.fold(resident, [delta]).is_finite()
    assert State.fold(resident, [random_delta(resident.loaded, 1)]).is_finite()


@torch.no_grad()
def _logits(loaded: LoadedModel, ids: Tensor) -> Tensor:
    logits: Tensor = loaded.model(input_ids=ids, use_cache=False).logits
    return logits


def _ids(loaded: LoadedModel, rows: int) -> Tensor:
    return torch.randint(2, loaded.config.vocab_size, (rows, 7), generator=torch.Generator().manual_seed(0))


def _states(resident: Resident) -> list[State]:
    loaded = resident.loaded
    one = State.fold(resident, [random_delta(loaded, 1, 2)])
    two = one.plus(dense_delta(loaded, 2, 3, scale=0.3))
    return [State(resident, {}), one, two, two.plus(random_delta(loaded, 0, seed=5))]


@pytest.mark.parametrize("head", [0, 1, 2])
@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_rows_of_one_batch_see_states_of_their_own(family: str, head: int) -> None:
    """Committed or not, of one layer or of several, with factors or without."""
    resident = Resident(tiny_model(family))
    loaded = resident.loaded
    states = [state.weights for state in _states(resident)]
    rows: list[Weights] = [states[index] for index in (2, 0, 3, 1, 0, 3)]
    ids = _ids(loaded, 1).expand(len(rows), -1)
    expected = []
    for weights in rows:
        resident.install(1, weights)
        expected.append(_logits(loaded, ids[:1])[0])
    resident.install(1, states[head])
    with resident.view(rows):
        found = _logits(loaded, ids)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-4)
    assert all(float((expected[a] - expected[b]).abs().max()) > 1e-2 for a, b in ((0, 1), (0, 2), (1, 2), (2, 3)))


@pytest.mark.parametrize("head", [0, 1])
@pytest.mark.parametrize("inner", [0, 1, 2])
@pytest.mark.parametrize("outer", [2, 3])
def test_a_view_within_a_view_is_the_inner_one(head: int, inner: int, outer: int) -> None:
    """Also where it asks for what the model holds itself, as key statistics do in the midst of a batch."""
    resident = Resident(tiny_model("llama"))
    states = _states(resident)
    ids = _ids(resident.loaded, 2)
    resident.install(1, states[inner].weights)
    expected = _logits(resident.loaded, ids)
    resident.install(1, states[head].weights)
    with states[outer].view({})():
        around = _logits(resident.loaded, ids)
        with resident.view([states[inner].weights]):
            assert torch.equal(_logits(resident.loaded, ids), expected)
        assert torch.equal(_logits(resident.loaded, ids), around)
    assert torch.equal(around, expected) is (inner == outer)
    assert overridden(resident.loaded) == []


def test_a_states_view_has_the_changes_on_top() -> None:
    resident = Resident(tiny_model("gpt2"))
    state = _states(resident)[1]
    more = random_delta(resident.loaded, 2, 3, seed=9)
    ids = _ids(resident.loaded, 2)
    resident.install(1, state.plus(more).weights)
    expected = _logits(resident.loaded, ids)
    resident.install(1, {})
    context = state.view(more.layers)
    for _ in range(2):
        with context():
            assert torch.equal(_logits(resident.loaded, ids), expected)
    assert overridden(resident.loaded) == []
