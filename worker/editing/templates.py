"""Context templates: short texts sampled from the model and put before the prompt (ROME, section 3.1)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

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

    specs: (length, count) pairs; length counts all tokens of the sampled text, the opening word's too. All texts are
    sampled together: a shorter one is the beginning of a longer one.
    """
    lengths = [length for length, count in specs for _ in range(count)]
    openings = [OPENINGS[index % len(OPENINGS)] for _, count in specs for index in range(count)]
    generator = torch.Generator().manual_seed(seed)
    texts: dict[int, str] = {}
    starts = [tuple(loaded.tokenizer(opening)["input_ids"]) for opening in openings]
    widths = sorted({len(start) for start in starts})
    for done, width in enumerate(widths, 1):
        rows = [index for index, start in enumerate(starts) if len(start) == width]
        ids = torch.tensor([starts[row] for row in rows], device=loaded.device)
        sampled = _continue(loaded, ids, max(lengths[row] for row in rows), generator)
        for row, tokens in zip(rows, sampled.tolist(), strict=True):
            kept = tokens[: max(lengths[row], width)]
            texts[row] = loaded.tokenizer.decode(kept, skip_special_tokens=True)
        yield Step("templates", done, len(widths))
    return ("", *(texts[row] + ". " for row in range(len(openings))))


@torch.no_grad()
def _continue(loaded: LoadedModel, ids: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """Continue rows of tokens [B, T] to `length` tokens, each drawn from the TOP_K likeliest."""
    text, cache = ids, DynamicCache(config=loaded.model.config)
    while text.shape[1] < length:
        output = loaded.model(input_ids=ids, cache=cache, use_cache=True, logits_to_keep=1)
        top, tokens = output.logits[:, -1].float().cpu().topk(min(TOP_K, output.logits.shape[-1]), dim=-1)
        ids = tokens.gather(1, torch.multinomial(top.softmax(-1), 1, generator=generator)).to(loaded.device)
        text = torch.cat([text, ids], dim=1)
    return text
