"""The noise has the standard deviation that the subjects' embeddings call for."""

import pytest
import torch

from tests.families import tiny_model, tiny_tokenizer
from worker.tracing.noise import draw, own_subjects, spread


@pytest.mark.parametrize("subjects", [own_subjects(), ("Lionel Messi", "The Eiffel Tower")])
def test_the_scale_is_that_of_all_elements_of_the_subjects_tokens(subjects: tuple[str, ...]) -> None:
    loaded = tiny_model("llama")
    ids = torch.cat([torch.tensor(tiny_tokenizer()(subject)["input_ids"]) for subject in subjects])
    expected = loaded.model.get_input_embeddings().weight[ids].std()
    assert spread(loaded, subjects) == pytest.approx(float(expected), rel=1e-5)


def test_a_scaled_embedding_counts_as_it_leaves_the_module() -> None:
    loaded = tiny_model("gemma3_text")
    ids = torch.tensor(tiny_tokenizer()("Lionel Messi")["input_ids"])
    bare = loaded.model.get_input_embeddings().weight[ids].std()
    assert spread(loaded, ["Lionel Messi"]) == pytest.approx(float(bare) * 32**0.5, rel=1e-3)


def test_noise_is_gaussian_of_that_scale() -> None:
    noise = draw(50, 40, 32, 0.25, 7)
    assert noise.shape == (50, 40, 32)
    assert float(noise.std()) == pytest.approx(0.25, rel=0.02)
    assert abs(float(noise.mean())) < 0.005
    assert torch.equal(noise, draw(50, 40, 32, 0.25, 7))
    assert not torch.equal(noise, draw(50, 40, 32, 0.25, 8))
    assert torch.equal(noise[:3], draw(3, 40, 32, 0.25, 7))


def test_the_shipped_facts_subjects_are_each_named_once() -> None:
    subjects = own_subjects()
    assert len(set(subjects)) == len(subjects) > 90
    assert all(subject == subject.strip() for subject in subjects)
