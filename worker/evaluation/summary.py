"""One fact's summary from the scores of its prompts and questions, in the terms of both schools."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean

from service.contracts.scores import AnswerScore, PromptScore, Side, Summary
from worker.evaluation.means import harmonic

Answers = Mapping[str, Sequence[AnswerScore]]
"""Scores of questions by group."""


def summary_of(
    rewrite: PromptScore,
    paraphrases: Sequence[PromptScore],
    neighborhood: Sequence[PromptScore],
    locality: Answers,
    portability: Answers,
) -> Summary:
    """The scores of one state."""
    es, ps = share(map(_new_wins, [rewrite])), share(map(_new_wins, paraphrases))
    ns = share(map(_true_wins, neighborhood))
    below = share(map(_new_ahead, neighborhood))
    return Summary(
        ES=es,
        PS=ps,
        NS=ns,
        S=harmonic(es, ps, ns),
        ES_diff=_new_ahead(rewrite),
        PS_diff=share(map(_new_ahead, paraphrases)),
        NS_diff=None if below is None else -below,
        EA=float(rewrite.target_new.accuracy == 1),
        PA=share(score.target_new.accuracy == 1 for score in paraphrases),
        NA=share(None if score.target_true is None else score.target_true.accuracy == 1 for score in neighborhood),
        rewrite_acc=rewrite.target_new.accuracy,
        rephrase_acc=share(score.target_new.accuracy for score in paraphrases),
        neighborhood_acc=share(score.same for score in neighborhood),
        locality={
            **_by_group(locality, "acc", lambda score: score.same),
            **_by_group(locality, "correct", lambda score: score.answer.accuracy),
        },
        portability=_by_group(portability, "acc", lambda score: score.answer.accuracy),
    )


def each_of(side: Side) -> dict[str, tuple[float, ...]]:
    """What EasyEdit's means of one state are of, prompt by prompt, by dotted name."""
    values: dict[str, list[float | None]] = {
        "rephrase_acc": [score.target_new.accuracy for score in side.paraphrases],
        "neighborhood_acc": [score.same for score in side.neighborhood],
        **{f"locality.{group}_acc": [one.same for one in asked] for group, asked in side.locality.items()},
        **{
            f"portability.{group}_acc": [one.answer.accuracy for one in asked]
            for group, asked in side.portability.items()
        },
    }
    known = {name: tuple(value for value in found if value is not None) for name, found in values.items()}
    return {name: found for name, found in known.items() if found}


def share(values: Iterable[float | None]) -> float | None:
    """The mean of those that there are."""
    known = [float(value) for value in values if value is not None]
    return fmean(known) if known else None


def _by_group(groups: Answers, name: str, value: Callable[[AnswerScore], float | None]) -> dict[str, float]:
    means = {f"{group}_{name}": share(map(value, scores)) for group, scores in groups.items()}
    return {group: mean for group, mean in means.items() if mean is not None}


def _new_wins(score: PromptScore) -> bool | None:
    return None if score.target_true is None else score.target_true.nll > score.target_new.nll


def _true_wins(score: PromptScore) -> bool | None:
    return None if score.target_true is None else score.target_true.nll < score.target_new.nll


def _new_ahead(score: PromptScore) -> float | None:
    """By how much target_new is likelier than target_true, a token's geometric mean of each."""
    return None if score.target_true is None else math.exp(-score.target_new.nll) - math.exp(-score.target_true.nll)
