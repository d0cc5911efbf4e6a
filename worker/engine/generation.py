"""Decode many continuations in one batch, whatever the revision, seed and length of each."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from service.contracts.generate import Continuation, FinishReason
from worker.models.loaded import LoadedModel
from worker.models.view import Weights


@dataclass(frozen=True)
class Wanted:
    """One continuation to decode: which prompt, under which weights, how long, how chosen (temperature 0: greedy)."""

    prompt: str
    revision: int
    weights: Weights
    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


View = Callable[[Sequence[Weights]], AbstractContextManager[None]]


@torch.no_grad()
def decode(loaded: LoadedModel, view: View, wanted: Sequence[Wanted]) -> list[Continuation]:
    """Continue all prompts in one `model.generate`, row i under the weights of `wanted[i]`."""
    prompts = [loaded.tokenizer(row.prompt)["input_ids"] for row in wanted]
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), loaded.pad_token_id)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(prompts):
        ids[row, width - len(tokens) :] = torch.tensor(tokens)
        mask[row, width - len(tokens) :] = 1
    choice = _Choice(wanted)
    with view([row.weights for row in wanted]):
        output = loaded.model.generate(
            input_ids=ids.to(loaded.device),
            attention_mask=mask.to(loaded.device),
            generation_config=GenerationConfig(
                max_new_tokens=max(row.max_new_tokens for row in wanted),
                do_sample=False,
                use_cache=True,
                pad_token_id=loaded.pad_token_id,
                eos_token_id=list(loaded.eos_token_ids) or None,
            ),
            logits_processor=LogitsProcessorList([choice]),
            stopping_criteria=StoppingCriteriaList([_Lengths(wanted, width)]),
        )
    return [_continuation(loaded, row, output[i, width:], choice.logprobs_of(i)) for i, row in enumerate(wanted)]


class _Choice(LogitsProcessor):  # type: ignore[misc]
    """Chooses each row's next token by its own temperature, top_p and seed, and notes its log-probability.

    Sampling adds Gumbel noise and takes the argmax, which draws from the same distribution. The noise depends on the
    row's seed and step alone: not on the batch, and it is the same on both sides of a comparison.
    """

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self._wanted = wanted
        self._noise = [torch.Generator().manual_seed(row.seed) for row in wanted]
        self._steps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002 - the signature is given
        logprobs = scores.float().log_softmax(-1)
        chosen = logprobs.argmax(-1)
        for index, row in enumerate(self._wanted):
            if row.temperature > 0:
                chosen[index] = _sampled(logprobs[index], row, self._noise[index])
        self._steps.append(logprobs.gather(1, chosen[:, None])[:, 0].cpu())
        forced = torch.full_like(scores, -torch.inf)
        return forced.scatter(1, chosen[:, None], 0.0)

    def logprobs_of(self, row: int) -> list[float]:
        """The log-probability of each token chosen for a row, nats."""
        return [float(step[row]) for step in self._steps]


def _sampled(logprobs: Tensor, row: Wanted, generator: torch.Generator) -> Tensor:
    scaled = (logprobs / row.temperature).log_softmax(-1)
    if row.top_p < 1:
        ordered, order = scaled.sort(descending=True)
        beyond = ordered.exp().cumsum(-1) - ordered.exp() >= row.top_p
        scaled = scaled.masked_fill(torch.zeros_like(beyond).scatter(0, order, beyond), -torch.inf)
    uniform = torch.rand(scaled.shape, generator=generator).clamp_min(1e-20).to(scaled.device)
    return (scaled - (-uniform.log()).log()).argmax()


class _Lengths(StoppingCriteria):  # type: ignore[misc]
    """Ends each row at its own length."""

    def __init__(self, wanted: Sequence[Wanted], width: int) -> None:
        self._limits = torch.tensor([width + row.max_new_tokens for row in wanted])

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # noqa: ARG002 - the signature is given
        return (self._limits <= input_ids.shape[1]).to(input_ids.device)


def _continuation(loaded: LoadedModel, row: Wanted, output: Tensor, logprobs: Sequence[float]) -> Continuation:
    tokens = output.tolist()[: row.max_new_tokens]
    ends = [at for at, token in enumerate(tokens) if token in loaded.eos_token_ids]
    tokens = tokens[: ends[0]] if ends else tokens
    return Continuation(
        revision=row.revision,
        text=loaded.tokenizer.decode(tokens, skip_special_tokens=True),
        tokens=tuple(loaded.tokenizer.decode([token]) for token in tokens),
        logprobs=tuple(logprobs[: len(tokens)]),
        finish_reason=FinishReason.STOP if ends else FinishReason.LENGTH,
    )
