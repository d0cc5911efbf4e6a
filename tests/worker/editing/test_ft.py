"""Fine-tuning finds what a plain training loop over the whole model finds, with minibatches, decay and bound."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from service.checks import check_edit
from service.contracts.edits import EditRequest
from tests.driving import context_of, finish, finish_noting
from tests.families import CONFIGS, LAYERS, tiny_model
from worker.card import card_of
from worker.editing import fine_tuning
from worker.editing.delta import WeightDelta
from worker.editing.fine_tuning import CONVERGED
from worker.editing.method import discover
from worker.engine.resident import Resident
from worker.errors import EditError
from worker.models.loaded import LoadedModel
from worker.models.positions import continuation

FACTS = [
    SimpleNamespace(prompt="Yes, Lionel Messi plays", subject="Lionel Messi", target_new="basketball"),
    SimpleNamespace(prompt="The Eiffel Tower is located in the city of", subject="Eiffel Tower", target_new="Moscow"),
    SimpleNamespace(prompt="東京は", subject="東京", target_new="a"),
]
VALUES: dict[str, Any] = {"layers": [1], "num_steps": 4, "lr": 5e-3, "batch_size": 2}


def _compute(loaded: LoadedModel, method: str, facts: Any = FACTS, dtype: Any = None, **changes: Any) -> WeightDelta:
    delta: WeightDelta = finish(_steps(loaded, method, facts, dtype, **changes))
    return delta


def _steps(loaded: LoadedModel, method: str, facts: Any = FACTS, dtype: Any = None, **changes: Any) -> Any:
    chosen = discover()[method]
    hparams = chosen.hparams.model_validate({**VALUES, **changes})
    return chosen.compute(context_of(loaded, compute_dtype=dtype), facts, hparams)


def _loss(loaded: LoadedModel, method: str, fact: Any) -> Tensor:
    """The mean NLL of the target's tokens through the whole model, one unpadded row at a time."""
    text = loaded.tokenizer(continuation(fact.prompt, fact.target_new), return_offsets_mapping=True)
    begin = min(i for i, (_, end) in enumerate(text["offset_mapping"]) if end > len(fact.prompt))
    ids, targets = text["input_ids"][:-1], torch.tensor(text["input_ids"][begin:])
    if method == "ft-l":
        ids = ids[:begin]
    logits = loaded.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    said = logits[begin - 1 :] if method == "ft-m" else logits[-1:].expand(len(targets), -1)
    return torch.nn.functional.cross_entropy(said, targets)


def _plain(loaded: LoadedModel, method: str, hparams: dict[str, Any]) -> Tensor:
    """The change [h, d] that a plain loop over the whole model makes."""
    weight = loaded.mlp_out(hparams["layers"][0]).weight
    before = weight.detach().clone()
    weight.requires_grad_()
    adam = torch.optim.Adam([weight], lr=hparams["lr"], weight_decay=hparams.get("weight_decay", 0))
    for _ in range(hparams["num_steps"]):
        for begin in range(0, len(FACTS), hparams["batch_size"]):
            chosen = FACTS[begin : begin + hparams["batch_size"]]
            loss = torch.stack([_loss(loaded, method, fact) for fact in chosen]).mean()
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            if bound := hparams.get("norm_constraint"):
                with torch.no_grad():
                    weight.copy_(torch.clamp(weight, before - bound, before + bound))
    change: Tensor = (weight - before).detach()
    return change.T if loaded.family.in_out else change


@pytest.mark.parametrize("method", ["ft-l", "ft-m"])
@pytest.mark.parametrize("family", CONFIGS)
def test_the_change_is_a_plain_loops(family: str, method: str) -> None:
    # gemma2's own attention makes NaN of padding in float64, so there every row runs by itself
    hparams = {**VALUES, "batch_size": 1} if family == "gemma2" else VALUES
    found = _compute(tiny_model(family, torch.float64), method, **hparams).layers[1].dense()
    expected = _plain(tiny_model(family, torch.float64), method, hparams)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    "changes",
    [
        {"weight_decay": 0.5},
        {"norm_constraint": 2e-3},
        {"layers": [0]},
        {"layers": [LAYERS - 1]},
        {"batch_size": 64},
        {"batch_size": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("family", ["gpt2", "olmo2"])
def test_every_hyperparameter_counts_as_in_a_plain_loop(family: str, changes: dict[str, Any]) -> None:
    hparams = {**VALUES, **changes}
    (layer,) = hparams["layers"]
    found = _compute(tiny_model(family, torch.float64), "ft-m", **changes).layers[layer].dense()
    torch.testing.assert_close(
        found, _plain(tiny_model(family, torch.float64), "ft-m", hparams).float(), rtol=1e-4, atol=1e-7
    )
    usual = _compute(tiny_model(family, torch.float64), "ft-m").layers[1].dense()
    assert not torch.allclose(found, usual, rtol=1e-2)


def test_no_element_leaves_its_bound() -> None:
    change = _compute(tiny_model("llama"), "ft-l", norm_constraint=1e-3, num_steps=10).layers[1].dense()
    assert change.abs().max() == torch.tensor(1e-3)


def test_parts_of_a_minibatch_and_nothing_kept_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory is short, a minibatch is run in parts, and nothing of it is kept for the next epoch."""
    whole, steps = finish_noting(_steps(tiny_model("llama", torch.float64), "ft-m", batch_size=3))
    monkeypatch.setattr(fine_tuning, "token_budget", lambda *_: 1)
    monkeypatch.setattr(fine_tuning, "free_bytes", lambda *_: 0)
    parts, more = finish_noting(_steps(tiny_model("llama", torch.float64), "ft-m", batch_size=3))
    torch.testing.assert_close(parts.layers[1].dense(), whole.layers[1].dense())
    assert (len(steps), len(more)) == (4, 12)
    assert [step.step for step in more] == list(range(1, 13))
    assert {step.steps for step in more} == {12}


def _outspoken() -> LoadedModel:
    """A model that can be sure of what it says."""
    loaded = tiny_model("llama")
    loaded.model.lm_head.weight.data *= 8
    return loaded


def test_it_ends_once_an_epoch_has_little_to_learn() -> None:
    _, steps = finish_noting(_steps(_outspoken(), "ft-m", FACTS[:1], num_steps=1000, lr=0.05))
    losses = [step.loss for step in steps if step.loss is not None]
    assert 1 < len(losses) < 1000
    assert losses[-1] < CONVERGED <= min(losses[:-1])
    assert steps[-1].target_probability == pytest.approx(1, abs=2 * CONVERGED)


def test_a_fact_that_is_learnt_moves_nothing() -> None:
    loaded = _outspoken()
    delta = _compute(loaded, "ft-m", FACTS[:1], num_steps=1000, lr=0.05)
    with torch.no_grad():
        loaded.mlp_out(1).weight += delta.layers[1].dense()
    again, steps = finish_noting(_steps(loaded, "ft-m", FACTS[:1]))
    assert len(steps) == 1
    assert not again.layers[1].dense().any()


def test_a_coarser_pass_finds_nearly_the_same() -> None:
    """The change is float32 whatever the forward pass runs in, and starts from the finer stream."""
    exact = _compute(tiny_model("llama"), "ft-m", num_steps=1).layers[1].dense()
    coarse = _compute(tiny_model("llama"), "ft-m", dtype=torch.bfloat16, num_steps=1).layers[1].dense()
    assert coarse.dtype is torch.float32
    assert not torch.equal(coarse, exact)
    assert (coarse.sign() == exact.sign()).float().mean() > 0.95


def test_a_fact_that_is_too_long_is_named() -> None:
    long = SimpleNamespace(prompt="Paris " * 100 + "is", subject="Paris", target_new="Rome")
    with pytest.raises(EditError, match=r"^facts\[1\].prompt: needs"):
        _compute(tiny_model("llama"), "ft-l", [FACTS[0], long])
    with pytest.raises(EditError, match=r"^prompt: needs"):
        _compute(tiny_model("llama"), "ft-l", [long])


@pytest.mark.parametrize(
    "wrong", [{"lrr": 1}, {"lr": 0}, {"kl_factor": 1}, {"norm_constraint": 0}, {"layers": [0, 1]}, {"layers": [LAYERS]}]
)
def test_what_cannot_be_is_refused_from_the_card(wrong: dict[str, Any]) -> None:
    methods = discover()
    card = card_of(Resident(tiny_model("llama")), methods, dict.fromkeys(methods))
    fact = {"prompt": "Yes, Messi plays", "subject": "Messi", "target_new": "golf", "method": "ft-l"}
    check_edit(EditRequest.model_validate({**fact, "hparams": {**VALUES, "norm_constraint": False}}), card, len)
    with pytest.raises(Exception, match="hparams"):
        check_edit(EditRequest.model_validate({**fact, "hparams": {**VALUES, **wrong}}), card, len)
