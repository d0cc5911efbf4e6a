"""The noise that hides a subject from a model: scaled by how much the embeddings of subjects differ."""

from collections.abc import Sequence

import torch
from torch import Tensor

from service.datasets.sources import SHIPPED, open_dataset
from worker.models.loaded import LoadedModel, precise


def own_subjects() -> tuple[str, ...]:
    """The subjects of the facts that the project ships, for whoever names none."""
    facts = (fact for record in open_dataset(SHIPPED).records for fact in record.facts)
    return tuple(dict.fromkeys(fact.subject for fact in facts))


@torch.no_grad()
def spread(loaded: LoadedModel, subjects: Sequence[str]) -> float:
    """The standard deviation of all elements of the subjects' token embeddings (ROME, section 2.1, footnote)."""
    tokenizer = loaded.tokenizer
    ids = [token for subject in subjects for token in tokenizer(subject, add_special_tokens=False)["input_ids"]]
    embedded = loaded.model.get_input_embeddings()(torch.tensor([ids], device=loaded.device))
    return float(precise(embedded).std())


def draw(samples: int, tokens: int, hidden_size: int, scale: float, seed: int) -> Tensor:
    """Gaussian noise [samples, tokens, h] float32, on the CPU, of standard deviation `scale`.

    The same seed gives the same noise on every machine, and its first samples whatever their number.
    """
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(samples, tokens, hidden_size, generator=generator)
