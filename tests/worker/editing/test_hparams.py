"""Every shipped YAML is whole, valid for its method, and found by the model it is for and by no other."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from worker.editing.hparams import read_file, shipped
from worker.editing.method import discover
from worker.settings import HPARAMS

FILES = sorted(HPARAMS.glob("*/*.yaml"))
ROME_MODELS = {
    *("gpt2-medium", "gpt2-large", "gpt2-xl", "gpt-j-6b", "llama-2-7b", "llama-3-8b", "mistral-7b"),
    *("qwen2.5-7b", "smollm2-135m"),
}


def test_the_models_of_the_readme_are_shipped() -> None:
    assert {path.stem for path in FILES if path.parent.name == "rome"} == ROME_MODELS


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_is_valid_and_fits_its_model(path: Path) -> None:
    file = read_file(path)
    hparams = discover()[path.parent.name].hparams.model_validate(file.hparams)
    assert max(*hparams.layers, hparams.v_loss_layer) == hparams.v_loss_layer == file.model.num_hidden_layers - 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_is_found_by_its_model_alone(path: Path) -> None:
    numbers = {"vocab_size": 1, **read_file(path).model.model_dump(exclude_none=True)}
    assert shipped(HPARAMS, path.parent.name, SimpleNamespace(**numbers)) == read_file(path).hparams
    siblings = [read_file(other).model for other in path.parent.glob("*.yaml") if other != path]
    assert not any(sibling.matches(SimpleNamespace(**numbers)) for sibling in siblings)


def test_an_unknown_model_has_no_values() -> None:
    config = SimpleNamespace(model_type="llama", num_hidden_layers=1, hidden_size=1, vocab_size=1)
    assert shipped(HPARAMS, "rome", config) is None
