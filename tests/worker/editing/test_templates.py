"""Context templates are the model's own words: reproducible, and of the lengths asked for."""

import pytest
import torch

from tests.driving import finish, finish_noting
from tests.families import CONFIGS, tiny_model
from tests.worker.engine.kit import bits, same_bits
from worker.editing import templates
from worker.editing.hparams import TemplateSpec
from worker.editing.templates import OPENINGS, longest, sample
from worker.models.loaded import LoadedModel

SPECS: tuple[TemplateSpec, ...] = ((5, 10), (10, 10))


@pytest.mark.parametrize("family", CONFIGS)
def test_twenty_one_prefixes(family: str) -> None:
    loaded = tiny_model(family)
    before = bits(loaded)
    prefixes = finish(sample(loaded, SPECS, seed=0))
    assert len(prefixes) == 21
    assert prefixes[0] == ""
    for index, prefix in enumerate(prefixes[1:]):
        assert prefix.startswith(OPENINGS[index % 10 % len(OPENINGS)])
        assert prefix.endswith(". ")
    assert len(set(prefixes)) > 15
    assert same_bits(before, bits(loaded))


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return tiny_model("llama")


def test_the_seed_decides(loaded: LoadedModel) -> None:
    first, again, other = (finish(sample(loaded, SPECS, seed)) for seed in (3, 3, 4))
    assert first == again
    assert first != other


@pytest.mark.parametrize("length", [1, 2, 7, 20])
def test_length_is_in_tokens_with_the_opening(loaded: LoadedModel, length: int) -> None:
    prefixes = finish(sample(loaded, ((length, 5),), seed=0))
    for prefix, opening in zip(prefixes[1:], OPENINGS, strict=True):
        least = max(length, len(loaded.tokenizer(opening)["input_ids"]))
        assert len(loaded.tokenizer(prefix)["input_ids"]) <= max(longest(((length, 5),)), least + 2) + least
        assert len(prefix) >= len(opening) + 2


def test_every_word_is_among_the_likeliest(loaded: LoadedModel) -> None:
    """Drawn with a cache; read back with whole passes."""
    ids = torch.tensor([[5, 6], [7, 8], [9, 10]])
    text = templates._continue(loaded, ids, 12, torch.Generator().manual_seed(1))
    assert text.shape == (3, 12)
    assert torch.equal(text[:, :2], ids)
    with torch.no_grad():
        allowed = loaded.model(text).logits.topk(templates.TOP_K).indices
    assert (allowed[:, 1:-1] == text[:, 2:, None]).any(-1).all()


def test_none_are_sampled_where_none_are_asked_for(loaded: LoadedModel) -> None:
    assert finish(sample(loaded, (), seed=0)) == ("",)
    assert finish(sample(loaded, ((5, 0),), seed=0)) == ("",)
    assert longest(()) >= 0


def test_steps_are_told(loaded: LoadedModel) -> None:
    _, steps = finish_noting(sample(loaded, SPECS, seed=0))
    assert steps
    assert [step.step for step in steps] == list(range(1, steps[-1].steps + 1))
