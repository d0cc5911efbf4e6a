"""Hyperparameters: shipped as YAML under the papers' names, found by the model's numbers, overridden by a request."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

Layer = Annotated[int, Field(ge=0)]
TemplateSpec = tuple[Annotated[int, Field(ge=1, le=64)], Annotated[int, Field(ge=0, le=64)]]
"""(length in tokens, how many): as the papers' context_template_length_params."""

LAYERS = "whose MLP output projections are changed; the first is 0"
"""What `layers` means, in every method."""


class Hparams(BaseModel):
    """What every method has in common; a misspelt name is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ValueHparams(Hparams):
    """The value optimisation's (ROME, equation 4) and the context templates'."""

    layers: Annotated[tuple[Layer, ...], Field(min_length=1, description=LAYERS)]
    fact_token: Annotated[
        Literal["subject_last"],
        Field(description="the token whose key and value are edited: the subject's last"),
    ] = "subject_last"  # noqa: S105 - a position, not a secret
    v_num_grad_steps: Annotated[
        int, Field(ge=1, le=1000, description="most steps of Adam that the value is sought for")
    ]
    v_lr: Annotated[float, Field(gt=0, description="Adam's learning rate for the value")]
    v_loss_layer: Annotated[Layer, Field(description="whose output the target's loss is read from: the last layer")]
    v_weight_decay: Annotated[float, Field(ge=0, description="penalty on the size of the value's change")]
    clamp_norm_factor: Annotated[
        float, Field(gt=0, description="most that the value may change, in norms of what it was")
    ]
    kl_factor: Annotated[
        float, Field(ge=0, description="weight of KL on what is said of the subject otherwise, after '<subject> is a'")
    ]
    context_template_length_params: Annotated[
        tuple[TemplateSpec, ...],
        Field(description="texts sampled to stand before the prompt: (tokens of each, how many)"),
    ] = ((5, 10), (10, 10))
    context_templates: Annotated[
        tuple[Annotated[str, Field(max_length=500)], ...] | None,
        Field(min_length=1, max_length=64, description="texts to put before the prompt instead of sampled ones"),
    ] = None
    seed: Annotated[int, Field(ge=0, lt=2**63, description="of the sampled context templates")] = 0


class CovarianceHparams(Hparams):
    """The key statistics' C (ROME, equation 2).

    The published files count documents (mom2_n_samples); documents differ in length, so here tokens are counted.
    """

    tokens_per_dimension: ClassVar[int] = 10
    """Tokens averaged over where none are asked for, for each of a key's d numbers: 2506.04226 finds 2 enough for
    GPT-2 XL and GPT-J, and recommends 10 for Llama-2. A method that needs C's null space needs many more."""

    mom2_adjustment: Annotated[bool, Field(description="use C = E[k k^T]; without it, C = I")] = False
    mom2_dataset: Annotated[
        Literal["self", "corpus", "wikipedia", "wikitext"],
        Field(
            description="text sampled from the model itself; the text that the worker was started with; or a dataset "
            "of the published code, from the worker's published files or streamed from the Hugging Face hub"
        ),
    ] = "self"
    mom2_n_tokens: Annotated[
        int | None, Field(ge=1, le=10**9, description="tokens to average over; null: a multiple of the key's dimension")
    ] = None
    mom2_dtype: Annotated[Literal["float32"], Field(description="that each k k^T is computed in")] = "float32"

    def tokens(self, size: int) -> int:
        """How many tokens to average over, for keys of `size` numbers."""
        return self.tokens_per_dimension * size if self.mom2_n_tokens is None else self.mom2_n_tokens


class ModelNumbers(BaseModel):
    """What identifies a model's architecture, under the names of a transformers configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_type: str
    num_hidden_layers: int
    hidden_size: int
    vocab_size: int | None = None

    def matches(self, config: Any) -> bool:
        """Whether a transformers configuration has these numbers."""
        wanted = self.model_dump(exclude_none=True)
        return all(getattr(config, name, None) == value for name, value in wanted.items())


class HparamsFile(BaseModel):
    """One YAML: which model, and the values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: ModelNumbers
    hparams: dict[str, Any]


def read_file(path: Path) -> HparamsFile:
    """One YAML file; raises a pydantic error if it is not of this shape."""
    return HparamsFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def shipped(directory: Path, method: str, config: Any) -> Mapping[str, Any] | None:
    """The values shipped for a method on the model with this configuration; None if there are none."""
    for path in sorted((directory / method).glob("*.yaml")):
        file = read_file(path)
        if file.model.matches(config):
            return file.hparams
    return None
