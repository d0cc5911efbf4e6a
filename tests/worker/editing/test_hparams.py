"""Every shipped YAML is whole, valid for its method, and found by the model it is for and by no other."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from worker.editing.hparams import read_file, shipped
from worker.editing.method import discover
from worker.settings import HPARAMS

FILES = sorted(HPARAMS.glob("*/*.yaml"))
ROME_MODELS = {
    *("gpt2-medium", "gpt2-large", "gpt2-xl", "gpt-j-6b", "llama-2-7b", "llama-3-8b", "mistral-7b"),
    *("qwen2.5-7b", "smollm2-135m"),
}


PUBLISHED: dict[tuple[str, str], dict[str, Any]] = {
    ("memit", "gpt2-xl"): {"layers": (13, 14, 15, 16, 17), "v_num_grad_steps": 20, "mom2_update_weight": 20_000},
    ("memit", "gpt-j-6b"): {"layers": (3, 4, 5, 6, 7, 8), "clamp_norm_factor": 0.75, "mom2_update_weight": 15_000},
    ("memit", "llama-3-8b"): {"layers": (4, 5, 6, 7, 8), "clamp_norm_factor": 0.75, "v_lr": 0.1, "v_weight_decay": 0.5},
    ("alphaedit", "llama-3-8b"): {"v_lr": 0.1, "v_weight_decay": 0.5, "L2": 10, "nullspace_threshold": 0.02},
    ("pmet", "gpt-j-6b"): {"v_num_grad_steps": 30, "v_lr": 0.2, "kl_factor": 1, "mom2_update_weight": 6000},
    ("emmet", "gpt2-xl"): {"layers": (17,), "mom2_update_weight": 1000, "emmet_lambda": 0.1},
    ("ft-l", "gpt2-xl"): {"layers": (0,), "lr": 5e-4, "norm_constraint": 5e-4, "batch_size": 3},
    ("ft-m", "llama-2-7b"): {"layers": (21,), "num_steps": 25, "norm_constraint": False},
}
"""Some of what the methods' authors have published, to hold the files against."""


def test_the_models_of_the_readme_are_shipped() -> None:
    assert {path.stem for path in FILES if path.parent.name == "rome"} == ROME_MODELS


def test_every_method_has_values_for_the_default_model() -> None:
    assert {path.parent.name for path in FILES if path.stem == "smollm2-135m"} == set(discover())
    assert {path.parent.name for path in FILES} == set(discover())


def test_a_name_is_the_same_model_throughout() -> None:
    numbers: dict[str, Any] = {}
    for path in FILES:
        model = read_file(path).model
        assert numbers.setdefault(path.stem, model) == model
    assert set(numbers) == ROME_MODELS


@pytest.mark.parametrize(("method", "model"), PUBLISHED)
def test_published_values_are_shipped(method: str, model: str) -> None:
    file = read_file(HPARAMS / method / f"{model}.yaml")
    found = discover()[method].hparams.model_validate(file.hparams).model_dump()
    expected = PUBLISHED[method, model]
    assert {name: found[name] for name in expected} == expected


def test_blue_has_memits_values() -> None:
    for path in FILES:
        if path.parent.name == "memit-blue" and path.stem != "smollm2-135m":
            assert path.read_text() == (HPARAMS / "memit" / path.name).read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_is_valid_and_fits_its_model(path: Path) -> None:
    file = read_file(path)
    hparams: Any = discover()[path.parent.name].hparams.model_validate(file.hparams)
    last = file.model.num_hidden_layers - 1
    assert hparams.layers == tuple(sorted(hparams.layers))
    assert max(hparams.layers) <= last
    assert getattr(hparams, "v_loss_layer", last) == last


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_is_found_by_its_model_alone(path: Path) -> None:
    numbers = {"vocab_size": 1, **read_file(path).model.model_dump(exclude_none=True)}
    assert shipped(HPARAMS, path.parent.name, SimpleNamespace(**numbers)) == read_file(path).hparams
    siblings = [read_file(other).model for other in path.parent.glob("*.yaml") if other != path]
    assert not any(sibling.matches(SimpleNamespace(**numbers)) for sibling in siblings)


def test_an_unknown_model_has_no_values() -> None:
    config = SimpleNamespace(model_type="llama", num_hidden_layers=1, hidden_size=1, vocab_size=1)
    assert shipped(HPARAMS, "rome", config) is None
