"""Context templates: short texts sampled from the model and put before the prompt (ROME, section 3.1)."""

from collections.abc import Sequence

import torch

from worker.editing.hparams import TemplateSpec
from worker.editing.progress import Step, Steps
from worker.models.loaded import LoadedModel

OPENINGS = ("The", "Therefore", "Because", "I", "You")
"""The words that sampled templates begin with, as EasyEdit has them."""

TOP_K = 5


def longest(specs: Sequence[TemplateSpec]) -> int:
    """The most tokens that a template of these lengths puts before a prompt, with ". " and some slack."""
    return max((length for length, _ in specs), default=0) + 4


def sample(loaded: LoadedModel, specs: Sequence[TemplateSpec], seed: int) -> Steps[tuple[str, ...]]:
    """Prefixes for a prompt: "" first, then the sampled ones, each ended by ". ".

    specs: (length, count) pairs; length counts all tokens of the sampled text, the opening word's too.
    """
    prefixes = [""]
    for index, (length, count) in enumerate(specs):
        prefixes += _continue_openings(loaded, length, count, seed + index)
        yield Step("templates", index + 1, len(specs))
    return tuple(prefixes)


@torch.no_grad()
def _continue_openings(loaded: LoadedModel, length: int, count: int, seed: int) -> list[str]:
    openings = [OPENINGS[index % len(OPENINGS)] for index in range(count)]
    texts = []
    generator = torch.Generator().manual_seed(seed)
    for opening in dict.fromkeys(openings):
        rows = openings.count(opening)
        ids = loaded.tokenizer(opening, return_tensors="pt")["input_ids"].expand(rows, -1).to(loaded.device)
        while ids.shape[1] < length:
            logits = loaded.model(input_ids=ids, logits_to_keep=1).logits[:, -1].float().cpu()
            top, tokens = logits.topk(min(TOP_K, logits.shape[-1]), dim=-1)
            choice = torch.multinomial(top.softmax(-1), 1, generator=generator)
            ids = torch.cat([ids, tokens.gather(1, choice).to(ids.device)], dim=1)
        texts += loaded.tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [text + ". " for text in texts]
