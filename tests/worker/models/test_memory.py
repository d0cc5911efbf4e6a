"""A batch takes a share of the free memory, never more than helps, and logits come in pieces."""

import platform
import subprocess
import sys

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.families import LAYERS, tiny_model
from worker.models import memory
from worker.models.memory import LOGITS_AT_ONCE, MOST_TOKENS, SHARE, free_bytes, logit_pieces, token_budget

PLENTY = 2**60


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What the device has free: set "bytes"."""
    has = {"bytes": PLENTY}
    monkeypatch.setattr(memory, "free_bytes", lambda _: has["bytes"])
    return has


def test_free_memory_is_the_machines() -> None:
    found = free_bytes(torch.device("cpu"))
    assert 0 < found <= psutil.virtual_memory().total


def test_no_more_tokens_than_help(free: dict[str, int]) -> None:
    loaded = tiny_model("llama")
    assert token_budget(loaded, LAYERS) == MOST_TOKENS["cpu"]
    assert token_budget(loaded, 0) == MOST_TOKENS["cpu"]
    free["bytes"] = 0
    assert token_budget(loaded, LAYERS) == 1


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_what_the_tokens_keep_fits_in_the_share(family: str, free: dict[str, int]) -> None:
    """Measured: what autograd holds for the backward pass through all blocks, token by token."""
    loaded = tiny_model(family)
    free["bytes"] = 2**22
    tokens = token_budget(loaded, LAYERS)
    assert 1 < tokens < MOST_TOKENS["cpu"]
    weights = {parameter.data_ptr() for parameter in loaded.model.parameters()}
    held: dict[int, int] = {}

    def hold(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    length = 8
    stream = torch.randn(max(1, tokens // length), length, 32, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        output = loaded.trunk(inputs_embeds=stream, use_cache=False).last_hidden_state
    assert output.requires_grad
    assert sum(held.values()) <= SHARE * free["bytes"]


def test_fewer_layers_leave_room_for_more_tokens(free: dict[str, int]) -> None:
    loaded = tiny_model("llama")
    free["bytes"] = 2**22
    budgets = [token_budget(loaded, layers) for layers in (4, 2, 1)]
    assert budgets == sorted(budgets)
    assert budgets[0] * 4 <= budgets[2] < budgets[0] * 5
    free["bytes"] *= 2
    assert 2 * budgets[0] <= token_budget(loaded, 4) <= 2 * budgets[0] + 1


@given(st.integers(0, 5000), st.integers(1, LOGITS_AT_ONCE))
@settings(max_examples=50, deadline=None, database=None)
def test_pieces_cover_every_position_once(positions: int, vocabulary: int) -> None:
    loaded = tiny_model("gpt2")
    loaded.config.vocab_size = vocabulary
    pieces = list(logit_pieces(loaded, positions))
    assert [at for piece in pieces for at in range(piece.start, piece.stop)] == list(range(positions))
    assert all(1 <= (piece.stop - piece.start) * vocabulary <= LOGITS_AT_ONCE for piece in pieces)
    if positions * vocabulary <= LOGITS_AT_ONCE:
        assert len(pieces) == min(1, positions)


FRESH = """
import psutil, torch
from worker.models.memory import give_back, map_large
{first}
largest = torch.ones(30, 2**18)
del largest  # from now on what has 30 MiB or less comes from the heap, unless it is mapped
passing, staying = [], []
for _ in range(50):
    passing.append(torch.ones(4, 2**20))
    staying.append(torch.ones(50_000))
before = psutil.Process().memory_info().rss
passing.clear()
{last}
print(before - psutil.Process().memory_info().rss)
"""
"""Among what is freed something small stays each time, as of every edit; in a process with an empty heap."""


def freed(first: str, last: str) -> int:
    """Bytes of 800 MiB that the system has again."""
    code = FRESH.format(first=first, last=last)
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what is freed")
def test_what_is_free_is_given_back() -> None:
    assert freed("", "") < 100 * 2**20, "glibc keeps it"
    assert freed("", "give_back()") > 700 * 2**20
    assert freed("map_large()", "") > 700 * 2**20
