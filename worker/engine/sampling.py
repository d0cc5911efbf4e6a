"""How the next token of each row is chosen: greedily, or drawn with the row's own parameters and noise."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from service.contracts.generate import Sampling


@dataclass(frozen=True)
class Choice:
    """A token, its log-probability before temperature and the like (nats), and those of the likeliest ones."""

    token: int
    logprob: float
    likeliest: tuple[tuple[int, float], ...] = ()


class Draw:
    """What the choice of one row's tokens depends on: parameters, the tokens it has had, its own noise.

    The noise follows from the seed and the number of tokens drawn so far: not from the batch, and it is the same on
    both sides of a comparison.
    """

    def __init__(self, sampling: Sampling, seed: int, ids: Sequence[int], device: torch.device) -> None:
        self.sampling = sampling
        self._seen = set(ids)
        self._noise = torch.Generator(device).manual_seed(seed) if sampling.temperature > 0 else None

    @property
    def plain(self) -> bool:
        """Whether the likeliest token is taken as it is."""
        return self._noise is None and self.sampling.repetition_penalty == 1

    def had(self, token: int) -> None:
        """Note a token that the row has got."""
        self._seen.add(token)

    def choose(self, logits: Tensor) -> Tensor:
        """The token for logits [V]: a repetition penalty, temperature, top_k, top_p, then a draw, in this order."""
        asked = self.sampling
        scores = penalized(logits, sorted(self._seen), asked.repetition_penalty)
        if self._noise is None:
            return scores.argmax()
        scores = cut(scores / asked.temperature, asked.top_k, asked.top_p)
        uniform = torch.rand(scores.shape, generator=self._noise, device=scores.device).clamp_min(1e-20)
        # Adding Gumbel noise and taking the largest draws from the same distribution.
        return (scores - (-uniform.log()).log()).argmax()


def penalized(logits: Tensor, seen: Sequence[int], penalty: float) -> Tensor:
    """Logits [V] where the tokens seen have lost (Keskar et al. 2019, arXiv:1909.05858, section 4.1)."""
    if penalty == 1:
        return logits
    index = torch.tensor(seen, device=logits.device)
    scores = logits[index]
    return logits.index_put((index,), torch.where(scores < 0, scores * penalty, scores / penalty))


def cut(scores: Tensor, top_k: int | None, top_p: float) -> Tensor:
    """Scores [V] without those beyond the top_k likeliest tokens, then beyond the fewest that make up top_p."""
    if top_k is not None and top_k < len(scores):
        scores = scores.masked_fill(scores < scores.topk(top_k).values[-1], -torch.inf)
    if top_p < 1:
        ordered, order = scores.log_softmax(-1).sort(descending=True)
        beyond = ordered.exp().cumsum(-1) - ordered.exp() >= top_p
        scores = scores.masked_fill(torch.zeros_like(beyond).scatter(0, order, beyond), -torch.inf)
    return scores


def choose(logits: Tensor, draws: Sequence[Draw]) -> list[Choice]:
    """Choose a token for every row of logits [B, V], float32."""
    chosen = logits.argmax(-1)
    for row, draw in enumerate(draws):
        if not draw.plain:
            chosen[row] = draw.choose(logits[row])
    normalizers = logits.logsumexp(-1)
    logprobs = logits.gather(1, chosen[:, None])[:, 0] - normalizers
    found = zip(chosen.tolist(), logprobs.tolist(), strict=True)
    return [
        Choice(token, logprob, _likeliest(logits[row], normalizers[row], draws[row].sampling.top_logprobs))
        for row, (token, logprob) in enumerate(found)
    ]


def _likeliest(logits: Tensor, normalizer: Tensor, count: int) -> tuple[tuple[int, float], ...]:
    if count == 0:
        return ()
    top = logits.topk(min(count, len(logits)))
    return tuple(zip(top.indices.tolist(), (top.values - normalizer).tolist(), strict=True))
