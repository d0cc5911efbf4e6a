"""Drift against a plain computation, sentence by sentence."""

import math

import pytest
import torch

from tests.families import tiny_model
from tests.worker.engine.kit import random_delta
from worker.engine.resident import Resident
from worker.engine.state import State
from worker.evaluation.drift import NEUTRAL, DriftMeter


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_perplexity_and_kl_are_those_of_single_sentences(family: str) -> None:
    resident = Resident(tiny_model(family, torch.float64))
    loaded = resident.loaded
    state = State.fold(resident, [random_delta(loaded, 1, 2, scale=0.1)])
    found = DriftMeter(loaded, lambda: resident.view([{}])).measure(state.view({}), state.norms)
    kl, nll, count = 0.0, [0.0, 0.0], 0
    for sentence in NEUTRAL:
        ids = loaded.tokenizer(sentence, return_tensors="pt")["input_ids"]
        sides = []
        for weights in ({}, state.weights):
            with torch.no_grad(), resident.view([weights]):
                sides.append(loaded.model(input_ids=ids, use_cache=False).logits[0, :-1].log_softmax(-1))
        kl += float((sides[0].exp() * (sides[0] - sides[1])).sum())
        for index, side in enumerate(sides):
            nll[index] -= float(side.gather(1, ids[0, 1:, None]).sum())
        count += ids.shape[1] - 1
    assert found.kl == pytest.approx(kl / count, rel=1e-4)
    assert found.perplexity_ratio == pytest.approx(math.exp((nll[1] - nll[0]) / count), rel=1e-4)


def test_the_base_has_not_drifted() -> None:
    resident = Resident(tiny_model("llama"))
    meter = DriftMeter(resident.loaded, lambda: resident.view([{}]))
    drift = meter.measure(lambda: resident.view([{}]), {})
    assert (drift.norms, drift.perplexity_ratio, drift.kl) == ({}, 1.0, 0.0)
