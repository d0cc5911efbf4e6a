"""Numbers that published implementations computed on the tiny models, with the inputs that they computed them from."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from torch import Tensor

from service.contracts.edits import Fact
from tests.families import tiny_model
from worker.editing.hparams import Hparams
from worker.models.loaded import LoadedModel

FOLDER = Path(__file__).parent
FAMILIES = ("gpt2", "llama")

NOT_OURS = {
    "calculate_objective_value",  # of diagnostics
    "enable_prompt_keys",  # p-ROME is a method of its own
    "enable_random_prefix_keys",  # so is R-ROME
    "layer_selection",  # "all", of layers that are listed anyway
    "model_name",  # decides the weights' orientation there
    "mom2_update_weight",  # AlphaEdit reads it nowhere; MEMIT and EMMET have it here too
    "original_implementation",
    "update_norm_lambda",  # 0
}
"""Hyperparameters of the published code that the project's methods may lack."""

Values = TypeVar("Values", bound=Hparams)


@dataclass(frozen=True)
class Golden:
    """One file: float64 tensors by name, and what its header says of them."""

    tensors: Mapping[str, Tensor]
    header: Mapping[str, str]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    @property
    def facts(self) -> list[Fact]:
        """The facts, their prompts with the subject filled in."""
        return [
            Fact(prompt=fact["prompt"].format(fact["subject"]), subject=fact["subject"], target_new=fact["target_new"])
            for fact in self.read("facts")
        ]

    @property
    def prefixes(self) -> list[str]:
        """What each context template puts before a prompt, in order."""
        templates = self.read("templates")
        flat = [one for kind in templates for one in kind] if isinstance(templates[0], list) else templates
        return [template.removesuffix("{}") for template in flat]

    @property
    def covariances(self) -> Mapping[int, Tensor]:
        """C of each layer, of float32 values."""
        return {int(layer): matrix for layer, matrix in _open(self.header["statistics"])[0].items()}

    def read(self, name: str) -> Any:
        """What the header has under a name, decoded."""
        return json.loads(self.header[name])

    def hparams(self, kind: type[Values], **changes: Any) -> Values:
        """The hyperparameters, as the project has them."""
        missing = NOT_OURS - kind.model_fields.keys()
        values = {name: value for name, value in self.read("hparams").items() if name not in missing}
        return kind.model_validate({**values, "context_templates": self.prefixes, **changes})

    def steps(self, variant: str = "") -> list[int]:
        """How often the loss of each fact was evaluated."""
        found: list[int] = self.read(f"steps.{variant}" if variant else "steps")
        return found


def golden(method: str, family: str) -> Golden:
    """The numbers of one method on one tiny model."""
    return Golden(*_open(f"{method}_{family}.safetensors"))


def model_of(numbers: Golden) -> LoadedModel:
    """The tiny model that they were computed on."""
    loaded = tiny_model(numbers.header["family"], torch.float64)
    if fingerprint(loaded) != numbers.header["model_sha256"]:
        raise AssertionError(
            f"tests.families no longer builds the model that the numbers of {numbers.header['repository']} are of. "
            f"Was it changed, or do torch {torch.__version__} or transformers seed or name weights otherwise than "
            f"torch {numbers.header['torch']} and transformers {numbers.header['transformers']}?"
        )
    return loaded


def fingerprint(loaded: LoadedModel) -> str:
    """SHA-256 over all weights and the vocabulary.

    The weights are rounded to float32, so that it does not hang on the last bits of a machine's logarithm.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(loaded.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.float().contiguous().numpy().tobytes())
    digest.update(json.dumps(sorted(loaded.tokenizer.get_vocab().items())).encode())
    return digest.hexdigest()


def columns(vectors: Sequence[Tensor]) -> Tensor:
    """Vectors [n] as the columns of a matrix."""
    return torch.stack(list(vectors), dim=1)


def error(found: Tensor, expected: Tensor) -> float:
    """The relative error: the norm of the difference over the norm of what was expected."""
    assert found.shape == expected.shape
    return float((found.double() - expected).norm() / expected.norm())


def _open(name: str) -> tuple[Mapping[str, Tensor], Mapping[str, str]]:
    with safe_open(FOLDER / name, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118 - it is no mapping
