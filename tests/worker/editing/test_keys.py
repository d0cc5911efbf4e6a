"""Keys and values of many facts are those of plain forward passes, one row at a time."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from service.contracts.edits import Fact
from tests.driving import finish, finish_noting
from tests.families import CONFIGS, LAYERS, tiny_model
from tests.worker.editing.kit import FACTS, Found
from tests.worker.engine.kit import random_delta
from worker.editing import keys
from worker.editing.keys import SubjectRows
from worker.engine.resident import Resident
from worker.engine.state import State
from worker.models.hooks import captured
from worker.models.loaded import LoadedModel
from worker.models.positions import subject_row

PREFIXES = ("", "The city. ", "Question: What sport, in Paris? ")
SEVERAL = (
    *FACTS,
    Fact(prompt="The Eiffel Tower is located in the city of", subject="The Eiffel Tower", target_new="Rome"),
    Fact(prompt="Yes, basketball is played", subject="basketball", target_new="football"),
    Fact(prompt="P plays", subject="P", target_new="football"),
)
"""Some begin alike, one is its subject alone, one twice the same key, one a single token."""


@torch.no_grad()
def _plain(loaded: LoadedModel, fact: Fact, prefix: str, layer: int, said_by: Any) -> tuple[Tensor, Tensor]:
    """What goes into the layer's projection, and what a module says, at the last token of the subject alone."""
    ids = subject_row(loaded.tokenizer, fact.prompt, fact.subject, prefix).ids
    with captured(loaded.mlp_out(layer)) as mlp, captured(said_by) as said:
        loaded.model(input_ids=torch.tensor([ids]), use_cache=False)
    return mlp.input.reshape(len(ids), -1)[-1], said.output.reshape(len(ids), -1)[-1]


def _expected(
    loaded: LoadedModel, facts: Sequence[Fact], prefixes: Sequence[str], layer: int, said_by: Any
) -> tuple[Tensor, Tensor]:
    """Keys [d, N], the mean of the two kinds' means, and values [h, N]."""
    columns, values = [], []
    for fact in facts:
        bare, value = _plain(loaded, fact, "", layer, said_by)
        others = [_plain(loaded, fact, prefix, layer, said_by)[0] for prefix in prefixes if prefix]
        columns.append((bare + torch.stack(others).mean(0)) / 2 if others else bare)
        values.append(value)
    return torch.stack(columns, dim=1), torch.stack(values, dim=1)


@pytest.mark.parametrize("at_mlp", [True, False])
@pytest.mark.parametrize("prefixes", [PREFIXES, ("",)], ids=["prefixes", "bare"])
@pytest.mark.parametrize("family", CONFIGS)
def test_keys_and_values_are_those_of_plain_passes(family: str, prefixes: Sequence[str], at_mlp: bool) -> None:
    loaded = tiny_model(family)
    found = Found.of(loaded)
    said_by = loaded.mlp_out(2) if at_mlp else loaded.module(loaded.family.layer, 2)
    rows = SubjectRows(loaded, SEVERAL, prefixes)
    columns, values = finish(rows.keys_and_values(1, 2, at_mlp=at_mlp))
    wanted_keys, wanted_values = _expected(loaded, SEVERAL, prefixes, 1, said_by)
    torch.testing.assert_close(columns, wanted_keys, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(values, wanted_values, rtol=1e-4, atol=1e-5)
    assert columns.dtype == values.dtype == torch.float32
    assert found.is_in(loaded)


@pytest.mark.parametrize("at_mlp", [True, False])
def test_the_layer_may_be_the_one_whose_values_are_asked_for(at_mlp: bool) -> None:
    loaded = tiny_model("llama")
    for layer in (0, LAYERS - 1):
        said_by = loaded.mlp_out(layer) if at_mlp else loaded.module(loaded.family.layer, layer)
        found = finish(SubjectRows(loaded, SEVERAL, PREFIXES).keys_and_values(layer, layer, at_mlp=at_mlp))
        for one, expected in zip(found, _expected(loaded, SEVERAL, PREFIXES, layer, said_by), strict=True):
            torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "opt", "gemma2"])
def test_what_the_mlp_says(family: str) -> None:
    loaded = tiny_model(family)
    _, expected = _expected(loaded, SEVERAL, ("",), 1, loaded.mlp_out(1))
    found = finish(SubjectRows(loaded, SEVERAL, PREFIXES).said(1))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_two_kinds_of_prompts_weigh_the_same_however_many_there_are() -> None:
    """A mean of means (MEMIT, section 4.2), not a flat one."""
    loaded = tiny_model("gpt2")
    few = finish(SubjectRows(loaded, SEVERAL, PREFIXES[:2]).keys_and_values(1, 1, at_mlp=True))[0]
    repeated = (*PREFIXES[:2], *PREFIXES[1:2] * 3)
    many = finish(SubjectRows(loaded, SEVERAL, repeated).keys_and_values(1, 1, at_mlp=True))[0]
    torch.testing.assert_close(few, many)
    bare = finish(SubjectRows(loaded, SEVERAL, ("",)).keys_and_values(1, 1, at_mlp=True))[0]
    assert float((few - bare).abs().max()) > 1e-2


@pytest.mark.parametrize("budget", [1, 8])
def test_small_chunks_come_to_the_same_and_every_one_is_a_step(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny_model("llama")
    rows = SubjectRows(loaded, SEVERAL, PREFIXES)
    expected, at_once = finish_noting(rows.keys_and_values(1, 2, at_mlp=False))
    monkeypatch.setattr(keys, "token_budget", lambda *_: budget)
    found, steps = finish_noting(rows.keys_and_values(1, 2, at_mlp=False))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert len(steps) > len(at_once)
    assert all(step.phase == "keys" and 1 <= step.step <= step.steps for step in steps)
    assert steps[-1].step == steps[-1].steps


def test_they_are_those_of_the_view_in_force() -> None:
    loaded = tiny_model("gpt2")
    resident = Resident(loaded)
    weights = State(resident, {}).plus(random_delta(loaded, 0)).weights
    rows = SubjectRows(loaded, SEVERAL, PREFIXES)
    base, _ = finish(rows.keys_and_values(1, 1, at_mlp=True))
    with resident.view([weights]):
        seen, _ = finish(rows.keys_and_values(1, 1, at_mlp=True))
    resident.install(1, weights)
    installed, _ = finish(rows.keys_and_values(1, 1, at_mlp=True))
    torch.testing.assert_close(seen, installed)
    assert float((seen - base).abs().max()) > 1e-2


def test_float64_stays() -> None:
    loaded = tiny_model("gpt2", torch.float64)
    found = finish(SubjectRows(loaded, SEVERAL, PREFIXES).keys_and_values(1, 1, at_mlp=True))
    assert [one.dtype for one in found] == [torch.float64, torch.float64]
