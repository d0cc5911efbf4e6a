"""Scores of an edit in the terms of both schools: ES, PS, NS, S, EA, PA, NA and *_acc."""

from typing import Annotated

from pydantic import Field

from service.contracts.base import Contract


class TargetScore(Contract):
    """One target after one prompt, under teacher forcing."""

    probability: Annotated[float, Field(description="of the whole target: the product over its tokens")]
    nll: Annotated[float, Field(description="mean negative log-likelihood per token, nats")]
    rank: Annotated[int, Field(description="of the target's first token; 1 is the likeliest")]
    accuracy: Annotated[float, Field(description="share of the target's tokens that are argmax")]


class PromptScore(Contract):
    """Both targets after one prompt."""

    prompt: str
    target_new: TargetScore
    target_true: TargetScore | None = None


class Summary(Contract):
    """One state's scores; null where the request gave nothing to score.

    ES, PS: share of prompts with NLL(target_true) > NLL(target_new) (ROME, section 3.1); NS: the reverse on the
    neighbourhood; S: the harmonic mean of the three; EA, PA, NA: share of prompts whose wanted target is argmax at
    every token; rewrite_acc, rephrase_acc: mean share of argmax tokens of target_new; neighborhood_acc: share of
    argmax tokens of target_true (else of the next token) equal to the base's.
    """

    ES: float | None = None
    PS: float | None = None
    NS: float | None = None
    S: float | None = None
    EA: float
    PA: float | None = None
    NA: float | None = None
    rewrite_acc: float
    rephrase_acc: float | None = None
    neighborhood_acc: float | None = None


class Side(Contract):
    """All scores of one state of the weights."""

    rewrite: PromptScore
    paraphrases: tuple[PromptScore, ...] = ()
    neighborhood: tuple[PromptScore, ...] = ()
    summary: Summary


class Metrics(Contract):
    """The same prompts on the base weights and on the edited ones."""

    before: Side
    after: Side


class FactSide(Contract):
    """One fact's prompt in one state of the weights; the summary takes its paraphrases and neighbours in."""

    target_new: TargetScore
    target_true: TargetScore | None = None
    summary: Summary


class FactScores(Contract):
    """One fact on the base weights and on the edited ones."""

    before: FactSide
    after: FactSide


class Summaries(Contract):
    """Means over the facts of an edit, on the base weights and on the edited ones."""

    before: Summary
    after: Summary


class Drift(Contract):
    """How far the weights are from the base, and what that does to text that no edit was about."""

    norms: Annotated[dict[int, float], Field(description="|W - W_base| / |W_base| (Frobenius) of each edited layer")]
    perplexity_ratio: Annotated[float, Field(description="perplexity of the neutral sentences over the base's")]
    kl: Annotated[float, Field(description="KL(base || this), mean over the tokens of the neutral sentences, nats")]
