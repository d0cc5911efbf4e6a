"""Scores of an edit in the terms of both schools: ES, PS, NS, S, EA, PA, NA and *_acc."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

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
    same: Annotated[
        float | None, Field(description="share of its argmax tokens that are the base's; of neighbours, else null")
    ] = None


class AnswerScore(Contract):
    """One question of a group: its answer under teacher forcing."""

    prompt: str
    answer: TargetScore
    same: Annotated[
        float | None, Field(description="share of its argmax tokens that are the base's; of locality, else null")
    ] = None


class Generated(Contract):
    """Scores of what the model says freely, token after token; null where nothing was asked.

    *_acc: share of prompts whose greedy continuation names the target, or an alias of it, in its first line;
    multi_hop_acc: whether that is so of any of the questions (MQuAKE, section 3.3). GE: n-gram entropy of sampled
    texts, bits; RS: their TF-IDF cosine to the reference texts (ROME, section 3.3); fluency: n-gram entropy of the
    texts sampled after the edited prompt, as EasyEdit has it, bits.
    """

    rewrite_acc: float | None = None
    rephrase_acc: float | None = None
    portability: dict[str, float] = Field(default_factory=dict)
    multi_hop_acc: float | None = None
    GE: float | None = None
    RS: float | None = None
    fluency: float | None = None


class Summary(Contract):
    """One state's scores; null where the request gave nothing to score. All but `generated` are by teacher forcing.

    ES, PS: share of prompts with NLL(target_true) > NLL(target_new) (ROME, section 3.1); NS: the reverse on the
    neighbourhood; S: the harmonic mean of the three; ES_diff, PS_diff, NS_diff: by how much exp(-NLL) of the wanted
    target is above that of the other, mean; EA, PA, NA: share of prompts whose wanted target is argmax at every
    token; rewrite_acc, rephrase_acc: mean share of argmax tokens of target_new; neighborhood_acc: share of argmax
    tokens of target_true (else of the next token) equal to the base's. By group: locality.<group>_acc: share of argmax
    tokens equal to the base's while the answer is forced; locality.<group>_correct, portability.<group>_acc: mean share
    of the answer's tokens that are argmax. multi_hop_acc: whether the answer to any of the questions is argmax at every
    token.
    """

    ES: float | None = None
    PS: float | None = None
    NS: float | None = None
    S: float | None = None
    ES_diff: float | None = None
    PS_diff: float | None = None
    NS_diff: float | None = None
    EA: float
    PA: float | None = None
    NA: float | None = None
    rewrite_acc: float
    rephrase_acc: float | None = None
    neighborhood_acc: float | None = None
    locality: dict[str, float] = Field(default_factory=dict)
    portability: dict[str, float] = Field(default_factory=dict)
    multi_hop_acc: float | None = None
    generated: Annotated[Generated | None, Field(description="of benchmarks; null where nothing was generated")] = None
    ci95: Annotated[
        dict[str, tuple[float, float]],
        Field(description="bootstrapped 95 % intervals of the means by dotted name; of one fact there are none"),
    ] = Field(default_factory=dict)

    def named(self) -> dict[str, float]:
        """All scores that there are, by dotted name: `ES`, `portability.reasoning_acc`, `generated.GE`."""
        return dict(_leaves(self.model_dump(exclude={"ci95"}), ""))

    @classmethod
    def of(cls, scores: Mapping[str, float], ci95: Mapping[str, tuple[float, float]] | None = None) -> Self:
        """The reverse of `named`."""
        values: dict[str, Any] = {"ci95": dict(ci95 or {})}
        for name, value in scores.items():
            *outer, last = name.split(".")
            inner = values
            for part in outer:
                inner = inner.setdefault(part, {})
            inner[last] = value
        return cls.model_validate(values)


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        elif value is not None:
            yield prefix + name, value


class Side(Contract):
    """All scores of one state of the weights."""

    rewrite: PromptScore
    paraphrases: tuple[PromptScore, ...] = ()
    neighborhood: tuple[PromptScore, ...] = ()
    locality: dict[str, tuple[AnswerScore, ...]] = Field(default_factory=dict)
    portability: dict[str, tuple[AnswerScore, ...]] = Field(default_factory=dict)
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
    each: Annotated[
        dict[str, tuple[float, ...]],
        Field(
            description="by dotted name what EasyEdit's means are of, rephrase_acc, neighborhood_acc, "
            "locality.<group>_acc, portability.<group>_acc: a value a prompt, in order"
        ),
    ] = Field(default_factory=dict)


class FactScores(Contract):
    """One fact on the base weights and on the edited ones."""

    before: FactSide
    after: FactSide


class RecordSide(Contract):
    """A record in one state of the weights: the means over its facts, and what is asked of all of them together."""

    summary: Summary
    multi_hop: tuple[AnswerScore, ...] = ()
    texts: Annotated[tuple[str, ...], Field(description="what was sampled after the generation prompts")] = ()


class RecordScores(Contract):
    """One record of a data set on the base weights and on the edited ones."""

    case_id: int
    facts: Annotated[tuple[FactScores, ...], Field(description="one a fact, in order")]
    before: RecordSide
    after: RecordSide


class Summaries(Contract):
    """Means over the facts of an edit, on the base weights and on the edited ones."""

    before: Summary
    after: Summary


class Drift(Contract):
    """How far the weights are from the base, and what that does to text that no edit was about."""

    norms: Annotated[dict[int, float], Field(description="|W - W_base| / |W_base| (Frobenius) of each edited layer")]
    perplexity_ratio: Annotated[float, Field(description="perplexity of the neutral sentences over the base's")]
    kl: Annotated[float, Field(description="KL(base || this), mean over the tokens of the neutral sentences, nats")]
