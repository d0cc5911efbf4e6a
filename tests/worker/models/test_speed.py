"""The dtype for value optimisations: as asked for, or what the machine is measured to be fastest in."""

import pytest
import torch

from tests.families import tiny_model
from worker.models import speed
from worker.models.speed import WORTH, compute_dtype


@pytest.fixture
def gain(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """How many times faster bfloat16 is on this machine: set "times"."""
    has = {"times": 1.0}
    monkeypatch.setattr(speed, "_seconds", lambda _, dtype: has["times"] if dtype is torch.float32 else 1.0)
    return has


@pytest.mark.parametrize("own", [torch.float32, torch.bfloat16])
def test_the_models_own(own: torch.dtype, gain: dict[str, float]) -> None:
    gain["times"] = 100
    assert compute_dtype(tiny_model("llama", own), "model") is None


@pytest.mark.parametrize(("name", "dtype"), [("bfloat16", torch.bfloat16), ("float32", torch.float32)])
def test_one_that_is_named(name: str, dtype: torch.dtype, gain: dict[str, float]) -> None:
    gain["times"] = 0.01 if dtype is torch.bfloat16 else 100
    assert compute_dtype(tiny_model("llama"), name) is dtype


@pytest.mark.parametrize(
    ("times", "dtype"), [(WORTH * 1.01, torch.bfloat16), (WORTH, torch.bfloat16), (WORTH * 0.99, None), (0.1, None)]
)
def test_bfloat16_where_it_is_worth_it(times: float, dtype: torch.dtype | None, gain: dict[str, float]) -> None:
    gain["times"] = times
    assert compute_dtype(tiny_model("llama"), "auto") is dtype


@pytest.mark.parametrize("own", [torch.bfloat16, torch.float16, torch.float64])
def test_only_a_float32_model_is_measured(own: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(speed, "_seconds")
    assert compute_dtype(tiny_model("llama", own), "auto") is None


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_machine_can_be_measured(family: str) -> None:
    """Whatever it comes to; the weights lie either way."""
    loaded = tiny_model(family)
    assert compute_dtype(loaded, "auto") in {None, torch.bfloat16}
    assert loaded.dtype is torch.float32
    for dtype in (torch.float32, torch.bfloat16):
        assert speed._seconds(loaded, dtype) > 0
