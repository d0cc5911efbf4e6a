"""A revision is a fold: base plus deltas, cast once; the base comes back bit for bit."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.families import CONFIGS, LAYERS, tiny_model
from tests.worker.engine.kit import bits, live_checksum, low_rank, random_delta, same_bits
from worker.editing.delta import LowRank, WeightDelta
from worker.engine.resident import Resident, digest
from worker.engine.state import State
from worker.models.loaded import LoadedModel

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SQUARE = "gpt2 with square weights"
FEW = settings(max_examples=30, deadline=None, database=None)

DELTAS = st.lists(
    st.tuples(
        st.lists(st.integers(0, LAYERS - 1), min_size=1, max_size=2, unique=True),
        st.integers(1, 3),
        st.integers(0, 2**31),
        st.sampled_from([2.0**-10, 0.25, 4.0]),
    ),
    max_size=5,
)


def _model(family: str, dtype: torch.dtype) -> LoadedModel:
    if family != SQUARE:
        return tiny_model(family, dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CONFIGS, "gpt2", {**CONFIGS["gpt2"], "n_inner": CONFIGS["gpt2"]["n_embd"]})
        return tiny_model("gpt2", dtype)


@cache
def _shared(family: str, dtype: torch.dtype) -> Resident:
    return Resident(_model(family, dtype))


def _plain_fold(resident: Resident, deltas: Sequence[WeightDelta]) -> dict[str, Tensor]:
    sums: dict[str, Tensor] = {}
    for delta in deltas:
        for layer, change in delta.layers.items():
            name = resident.name_of(layer)
            dense = low_rank(change).residuals.double() @ low_rank(change).solver.double().T
            weight = resident.loaded.model.get_parameter(name).data
            before = sums[name] if name in sums else weight.double()
            sums[name] = before + (dense.T if resident.loaded.family.name == "gpt2" else dense)
    return {name: total.float().to(resident.loaded.dtype) for name, total in sums.items()}


def _draw(loaded: LoadedModel, drawn: Sequence[Any]) -> list[WeightDelta]:
    """Deltas whose factors are multiples of scale / 256, so that a plain product of them is exact too."""
    found = []
    for layers, rank, seed, scale in drawn:
        random = random_delta(loaded, *layers, rank=rank, seed=seed, scale=scale)
        changes = {layer: low_rank(change) for layer, change in random.layers.items()}
        step = scale / 256
        rounded = {
            layer: LowRank(*(torch.round(factor / step) * step for factor in (change.residuals, change.solver)))
            for layer, change in changes.items()
        }
        found.append(WeightDelta(rounded))
    return found


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", ["llama", "gpt2", SQUARE])
@given(drawn=DELTAS)
@FEW
def test_fold_is_base_plus_deltas_cast_once(family: str, dtype: torch.dtype, drawn: Any) -> None:
    resident = _shared(family, dtype)
    deltas = _draw(resident.loaded, drawn)
    folded, expected = State.fold(resident, deltas).weights, _plain_fold(resident, deltas)
    assert folded.keys() == expected.keys()
    for name, tensor in folded.items():
        assert tensor.dtype == dtype
        assert torch.equal(tensor, expected[name])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", ["llama", "gpt2", SQUARE])
@given(drawn=DELTAS, more=DELTAS)
@FEW
def test_any_edits_and_back_is_the_base(family: str, dtype: torch.dtype, drawn: Any, more: Any) -> None:
    resident = _shared(family, dtype)
    before = bits(resident.loaded)
    assert live_checksum(resident.loaded) == resident.base_checksum
    for revision, deltas in enumerate((drawn, more), 1):
        weights = State.fold(resident, _draw(resident.loaded, deltas)).weights
        resident.install(revision, weights)
        assert resident.revision == revision
        assert live_checksum(resident.loaded) == resident.checksum({name: digest(t) for name, t in weights.items()})
        after = bits(resident.loaded)
        assert all(torch.equal(after[name], weights.get(name, tensor)) for name, tensor in before.items())
    resident.install(3, {})
    assert same_bits(before, bits(resident.loaded))
    assert live_checksum(resident.loaded) == resident.base_checksum


def test_deltas_fold_on_the_base_whatever_is_installed() -> None:
    resident = Resident(tiny_model("gpt2", torch.bfloat16))
    first, second = (random_delta(resident.loaded, 1, seed=seed) for seed in (1, 2))
    expected = State.fold(resident, [first, second]).weights
    resident.install(1, State.fold(resident, [first]).weights)
    folded = State.fold(resident, [first, second]).weights
    assert all(torch.equal(folded[name], tensor) for name, tensor in expected.items())


def test_a_subtraction_would_not_give_the_base_back() -> None:
    """Why it is a fold: in bfloat16, adding and taking away leaves other weights."""
    loaded = tiny_model("llama", torch.bfloat16)
    weight = loaded.mlp_out(1).weight.data
    change = random_delta(loaded, 1).layers[1].dense().to(weight.dtype)
    assert not torch.equal(weight + change - change, weight)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(data=st.data())
@FEW
def test_one_flipped_bit_changes_the_checksum(dtype: torch.dtype, data: st.DataObject) -> None:
    loaded = _shared("llama", dtype).loaded
    name = data.draw(st.sampled_from(sorted(name for name, _ in loaded.model.named_parameters())))
    raw = loaded.model.get_parameter(name).data.reshape(-1).view(torch.uint8)
    byte, bit = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 7))
    before = live_checksum(loaded)
    raw[byte] ^= 1 << bit
    try:
        assert live_checksum(loaded) != before
    finally:
        raw[byte] ^= 1 << bit
    assert live_checksum(loaded) == before


def test_a_digest_is_of_dtype_and_shape_too() -> None:
    zeros = torch.zeros(2, 8)
    seen = {digest(tensor) for tensor in (zeros, zeros.T, zeros.reshape(-1), zeros.int(), torch.zeros(4, 8).half())}
    assert len(seen) == 5
    assert digest(zeros.T) == digest(zeros.T.contiguous())
