"""PMET finds what a plain transcription of its paper's loop finds, with whole passes, one fact and row at a time."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.driving import context_of, finish, finish_noting
from tests.families import CONFIGS, LAYERS, tiny_model
from worker.editing.method import discover
from worker.models.hooks import captured
from worker.models.loaded import LoadedModel
from worker.models.positions import Row, subject_row, target_row

FACTS = [
    SimpleNamespace(prompt="Yes, Lionel Messi plays", subject="Lionel Messi", target_new="basketball"),
    SimpleNamespace(prompt="The Eiffel Tower is in", subject="Eiffel Tower", target_new="Rome"),
]
PREFIXES = ("", "The city. ", "Question. ")
VALUES: dict[str, Any] = {
    "layers": [1, 2],
    "v_num_grad_steps": 6,
    "v_lr": 0.5,
    "v_loss_layer": LAYERS - 1,
    "v_weight_decay": 0.5,
    "clamp_norm_factor": 0.75,
    "kl_factor": 1,
    "mom2_update_weight": 2.0,
    "context_templates": PREFIXES,
}
EXACT = [name for name in CONFIGS if name != "gemma2"]
"""gemma2's own attention makes NaN of padding in float64."""


def _model(name: str) -> LoadedModel:
    """A model that can be sure of what it says."""
    loaded = tiny_model(name, torch.float64)
    head = loaded.model.get_submodule(loaded.family.head)
    head.weight = torch.nn.Parameter(head.weight * 8, requires_grad=False)  # apart from the embedding
    return loaded


def _covariances() -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = {layer: torch.randn(300, 128, generator=generator, dtype=torch.float64) for layer in range(LAYERS)}
    return {layer: keys.T @ keys / len(keys) for layer, keys in drawn.items()}


def _steps(loaded: LoadedModel, facts: Sequence[Any], **changes: Any) -> Any:
    width = loaded.mlp_out(0).weight.numel() // 32
    covariances = {layer: matrix[:width, :width] for layer, matrix in _covariances().items()}
    method = discover()["pmet"]
    return method.compute(context_of(loaded, covariances), facts, method.hparams.model_validate({**VALUES, **changes}))


class Plain:
    """One fact's value, by whole passes of unpadded rows with hooks at both places of a layer."""

    def __init__(self, loaded: LoadedModel, fact: Any, hparams: dict[str, Any]) -> None:
        self.loaded, self.hparams, self.layer = loaded, hparams, max(hparams["layers"])
        self.rows = [target_row(loaded.tokenizer, fact.prompt, fact.target_new, fact.subject, p) for p in PREFIXES]
        self.kl_row = subject_row(loaded.tokenizer, f"{fact.subject} is a", fact.subject)
        self.places = loaded.module(loaded.family.attn_out, self.layer), loaded.mlp_out(self.layer)
        self.factors: list[float] = []

    def initial(self) -> list[Tensor]:
        row = self.rows[0]
        with captured(self.places[0]) as attention, captured(self.places[1]) as mlp:
            self.loaded.model(input_ids=torch.tensor([row.ids]), use_cache=False)
        return [said.output.reshape(len(row.ids), -1)[row.anchor] for said in (attention, mlp)]

    def said(self, row: Row, deltas: Sequence[Tensor]) -> Tensor:
        """Log-probabilities [M, vocabulary] where a row is read."""

        def adding(delta: Tensor) -> Any:
            def add(_: Any, __: Any, output: Tensor) -> Tensor:
                moved = output.clone()
                moved.view(len(row.ids), -1)[row.anchor] += delta
                return moved

            return add

        handles = [place.register_forward_hook(adding(delta)) for place, delta in zip(self.places, deltas, strict=True)]
        logits = self.loaded.model(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0, list(row.reads)]
        for handle in handles:
            handle.remove()
        return F.log_softmax(logits, -1)

    def value(self) -> Tensor:
        """What the MLP should say."""
        initial = self.initial()
        deltas = [torch.zeros_like(value, requires_grad=True) for value in initial]
        adam = torch.optim.Adam(deltas, lr=self.hparams["v_lr"])
        factor, before = 1.0, None
        for step in range(self.hparams["v_num_grad_steps"]):
            self.factors.append(factor)
            said = [self.said(row, deltas) for row in self.rows]
            targets = [torch.tensor(row.targets) for row in self.rows]
            nll = torch.stack([F.nll_loss(one, target) for one, target in zip(said, targets, strict=True)]).mean()
            now = self.said(self.kl_row, deltas)
            before = now.detach() if before is None else before
            kl = self.hparams["kl_factor"] * F.kl_div(before, now, log_target=True, reduction="batchmean")
            decay = sum(delta.norm() / value.norm() ** 2 for delta, value in zip(deltas, initial, strict=True))
            loss = factor * nll + kl + self.hparams["v_weight_decay"] * decay
            certain = all(bool((one.argmax(-1) == target).all()) for one, target in zip(said, targets, strict=True))
            factor = 0.1 if certain else 1.0
            if loss < 5e-2 or (certain and kl <= 0.01) or step == self.hparams["v_num_grad_steps"] - 1:
                break
            adam.zero_grad()
            loss.backward()
            adam.step()
            with torch.no_grad():
                for delta, value in zip(deltas, initial, strict=True):
                    delta.mul_(min(1.0, float(self.hparams["clamp_norm_factor"] * value.norm() / delta.norm())))
        found: Tensor = (initial[1] + deltas[1]).detach()
        return found


def _plain(loaded: LoadedModel, facts: Sequence[Any], hparams: dict[str, Any]) -> dict[int, Tensor]:
    """The changes [h, d], each layer's written into the model before the next one's is computed."""
    computing = [Plain(loaded, fact, hparams) for fact in facts]
    wanted = torch.stack([plain.value() for plain in computing], dim=1)
    changes: dict[int, Tensor] = {}
    for index, layer in enumerate(hparams["layers"]):
        keys, now = [], []
        for fact, plain in zip(facts, computing, strict=True):
            rows = [subject_row(loaded.tokenizer, fact.prompt, fact.subject, prefix) for prefix in PREFIXES]
            at = []
            for row in rows:
                with captured(loaded.mlp_out(layer)) as mlp:
                    loaded.model(input_ids=torch.tensor([row.ids]), use_cache=False)
                at.append(mlp.input.reshape(len(row.ids), -1)[row.anchor])
            keys.append((at[0] + torch.stack(at[1:]).mean(0)) / 2)
            now.append(plain.initial()[1])
        key, residual = torch.stack(keys, dim=1), wanted - torch.stack(now, dim=1)
        metric = hparams["mom2_update_weight"] * _covariances()[layer][: len(key), : len(key)] + key @ key.T
        share = (len(hparams["layers"]) - index) ** -0.5
        changes[layer] = share * residual @ torch.linalg.solve(metric, key).T
        weight = loaded.mlp_out(layer).weight
        weight += changes[layer].T if loaded.family.in_out else changes[layer]
    return changes


@pytest.mark.parametrize("family", EXACT)
def test_the_changes_are_a_plain_loops(family: str) -> None:
    delta = finish(_steps(_model(family), FACTS))
    expected = _plain(_model(family), FACTS, VALUES)
    assert delta.layers.keys() == expected.keys()
    for layer, change in expected.items():
        assert change.abs().max() > 1e-3
        torch.testing.assert_close(delta.layers[layer].dense(), change.float(), rtol=1e-3, atol=1e-5)


READ_AT_ONCE = [
    SimpleNamespace(prompt="Yes, Lionel Messi", subject="Lionel Messi", target_new="football"),
    SimpleNamespace(prompt="The Eiffel Tower", subject="Eiffel Tower", target_new="football"),
]
"""Facts that are read where they are moved, so that they can be made certain."""
FREE = {"layers": [1], "v_weight_decay": 1e-3, "clamp_norm_factor": 20}


def test_a_target_counts_less_while_it_is_certain() -> None:
    changes = {**FREE, "v_num_grad_steps": 20, "kl_factor": 0.3, "v_lr": 0.2}
    plain = Plain(_model("llama"), READ_AT_ONCE[1], {**VALUES, **changes})
    plain.value()
    turns = [factor for factor, before in zip(plain.factors[1:], plain.factors, strict=False) if factor != before]
    assert turns[:3] == [0.1, 1.0, 0.1]
    found, steps = finish_noting(_steps(_model("llama"), READ_AT_ONCE[1:], **changes))
    assert sum(step.phase == "value" for step in steps) == len(plain.factors) == 20
    expected = _plain(_model("llama"), READ_AT_ONCE[1:], {**VALUES, **changes})
    torch.testing.assert_close(found.layers[1].dense(), expected[1].float(), rtol=1e-3, atol=1e-5)


def test_certain_facts_of_one_batch_end_each_in_their_own_time() -> None:
    changes = {**FREE, "v_num_grad_steps": 60, "kl_factor": 1e-4}
    lengths = []
    for fact in READ_AT_ONCE:
        plain = Plain(_model("llama"), fact, {**VALUES, **changes})
        plain.value()
        lengths.append(len(plain.factors))
    assert 60 > lengths[0] != lengths[1] < 60
    found, steps = finish_noting(_steps(_model("llama"), READ_AT_ONCE, **changes))
    assert sum(step.phase == "value" for step in steps) == max(lengths)
    expected = _plain(_model("llama"), READ_AT_ONCE, {**VALUES, **changes})
    torch.testing.assert_close(found.layers[1].dense(), expected[1].float(), rtol=1e-3, atol=1e-5)


def test_a_coarser_pass_finds_nearly_the_same() -> None:
    method = discover()["pmet"]
    hparams = method.hparams.model_validate({**VALUES, "v_num_grad_steps": 2, "layers": [0]})
    loaded = tiny_model("llama")
    covariances = {0: _covariances()[0][:64, :64]}
    exact, coarse = (
        finish(method.compute(context_of(loaded, covariances, compute_dtype=dtype), FACTS, hparams)).layers[0].dense()
        for dtype in (None, torch.bfloat16)
    )
    assert not torch.equal(exact, coarse)
    assert F.cosine_similarity(exact.flatten(), coarse.flatten(), dim=0) > 0.95
