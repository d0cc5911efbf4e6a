"""A trace has the numbers of one restored run at a time, for every family, and leaves nothing behind."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from service.contracts.traces import Kind, Traced, TraceRequest
from tests.driving import finish, finish_noting
from tests.families import CONFIGS, LAYERS, tiny_model
from tests.worker.engine.kit import bits, same_bits, surroundings
from tests.worker.tracing.plain import plain_trace
from worker.models import memory
from worker.models.loaded import LoadedModel
from worker.models.products import KINDS, FastProducts
from worker.tracing import restoring
from worker.tracing import trace as tracing
from worker.tracing.noise import draw, own_subjects, spread
from worker.tracing.trace import Found, default_window, trace

PROMPT, SUBJECT = "Yes, Lionel Messi plays", "Lionel Messi"


def request(**changes: Any) -> TraceRequest:
    fields = {"prompt": PROMPT, "subject": SUBJECT, "target": "foot", "samples": 3, "noise": 2, "window": 2}
    return TraceRequest.model_validate({**fields, **changes})


def traced(loaded: LoadedModel, **changes: Any) -> Found:
    return finish(trace(loaded, request(**changes)))


def relative(found: Tensor, expected: Tensor) -> Tensor:
    """Answers of random models are unlikely, so their probabilities are compared by what they are times of."""
    return (found.double().log() - expected.double().log()).abs().max()


@pytest.mark.parametrize("family", CONFIGS)
def test_a_trace_is_one_restored_run_at_a_time(family: str) -> None:
    loaded = tiny_model(family)
    found = traced(loaded)
    width = loaded.model.get_input_embeddings().weight.shape[1]
    noise = draw(3, len(found.asked.subject), width, 2 * spread(loaded, own_subjects()), 0)
    high, low, restored = plain_trace(loaded, found.asked, noise, list(Kind), 2)
    assert len(found.asked.row.targets) > 1, "an answer of several tokens"
    assert found.clean.probability == pytest.approx(high, rel=1e-4)
    assert relative(found.low, low) < 1e-4
    assert found.tokens == range(len(found.asked.tokens))
    for kind in Kind:
        assert relative(found.restored[kind], restored[kind]) < 1e-3, kind
        begin = found.asked.subject.start
        assert torch.equal(found.restored[kind][:begin], found.low.expand_as(found.restored[kind][:begin]))
        assert relative(found.restored[kind][begin:], low.expand_as(restored[kind][begin:])) > 0.01, "nothing moved"


@pytest.mark.parametrize("window", [1, 3, 4, 9])
def test_windows_are_those_of_the_published_code(window: int) -> None:
    loaded = tiny_model("gpt2")
    found = traced(loaded, window=window, samples=1)
    noise = draw(1, len(found.asked.subject), 32, 2 * spread(loaded, own_subjects()), 0)
    _, _, restored = plain_trace(loaded, found.asked, noise, [Kind.MLP, Kind.ATTN], window)
    for kind, expected in restored.items():
        assert relative(found.restored[kind], expected) < 1e-3


def test_restoring_where_the_answer_is_read_gives_the_clean_answer() -> None:
    found = traced(tiny_model("llama"), target=None, samples=2)
    last = found.restored[Kind.HIDDEN][-1, -1]
    assert torch.allclose(last, torch.tensor(found.clean.probability, dtype=last.dtype), rtol=1e-4)
    assert found.clean.top, "it is the model's own answer"


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "falcon"])
def test_small_batches_give_the_same_numbers(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny_model(family)
    expected = traced(loaded)
    monkeypatch.setitem(memory.MOST_TOKENS, "cpu", 17)
    monkeypatch.setattr(tracing, "token_budget", lambda *_: 20)
    monkeypatch.setattr(restoring, "STRETCH", 1)
    found, steps = finish_noting(trace(loaded, request()))
    assert relative(found.low, expected.low) < 1e-5
    for kind in Kind:
        assert relative(found.restored[kind], expected.restored[kind]) < 1e-4
    restores = [step for step in steps if step.phase == "restore"]
    assert len(restores) > 30
    assert [step.step for step in restores] == sorted(step.step for step in restores)
    assert restores[-1].step == restores[-1].steps


def test_kinds_and_tokens_may_be_chosen() -> None:
    loaded = tiny_model("llama")
    whole = traced(loaded)
    subject = list(whole.asked.subject)
    for which, tokens in ((Traced.SUBJECT, subject), (Traced.LAST_SUBJECT, subject[-1:])):
        found = traced(loaded, kinds=["attn", "hidden"], tokens=which)
        assert list(found.tokens) == tokens
        assert list(found.restored) == [Kind.ATTN, Kind.HIDDEN]
        for kind, values in found.restored.items():
            assert relative(values, whole.restored[kind][tokens]) < 1e-4


def test_the_seed_decides() -> None:
    loaded = tiny_model("llama")
    first, again, other = (traced(loaded, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.low, again.low)
    assert torch.equal(first.restored[Kind.MLP], again.restored[Kind.MLP])
    assert not torch.equal(first.low, other.low)
    fewer = traced(loaded, samples=2)
    assert relative(fewer.low, first.low[:2]) < 1e-5, "more samples do not change the first ones"


def test_a_model_in_bfloat16_is_traced_as_it_computes() -> None:
    exact, coarse = traced(tiny_model("llama"), target=None), traced(tiny_model("llama", torch.bfloat16), target=None)
    assert coarse.clean.probability == pytest.approx(exact.clean.probability, rel=0.1)
    difference = (coarse.restored[Kind.HIDDEN] - exact.restored[Kind.HIDDEN]).abs().max()
    assert 0 < difference < 0.1 * exact.clean.probability


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_faster_products_are_taken_and_left(family: str) -> None:
    plain = tiny_model(family)
    loaded = replace(plain, products=FastProducts(plain.model))
    modules = list(loaded.model.modules())
    before, expected = [type(module) for module in modules], traced(plain)
    during: set[type] = set()
    handle = loaded.mlp_out(0).register_forward_hook(lambda module, *_: during.add(type(module)))
    for step in (steps := trace(loaded, request())):
        assert [type(module) for module in modules] == before, step
    handle.remove()
    steps.close()
    assert during == {KINDS[type(loaded.mlp_out(0))]}
    assert relative(traced(loaded).restored[Kind.MLP], expected.restored[Kind.MLP]) < 1e-4


@pytest.mark.parametrize("stop", [1, 2, 5, None])
def test_nothing_is_left_behind_wherever_it_is_stopped(stop: int | None) -> None:
    loaded = tiny_model("falcon")
    before, found = bits(loaded), surroundings(loaded)
    steps = trace(loaded, request())
    for _ in itertools.islice(steps, stop):
        assert surroundings(loaded) == found
    steps.close()
    assert surroundings(loaded) == found
    assert same_bits(bits(loaded), before)


@pytest.mark.parametrize(("layers", "window"), [(48, 10), (96, 10), (32, 7), (30, 6), (28, 6), (12, 2), (4, 1)])
def test_the_window_is_the_papers_share_of_the_layers(layers: int, window: int) -> None:
    assert default_window(layers) == window


def test_a_model_has_as_many_columns_as_layers() -> None:
    found = traced(tiny_model("llama"), samples=2)
    assert {kind: values.shape for kind, values in found.restored.items()} == {
        kind: (len(found.asked.tokens), LAYERS, 2) for kind in Kind
    }
