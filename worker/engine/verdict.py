"""What an edit did, before it is committed: scores and continuations on the base and on the edited weights."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from service.contracts.edits import Fact, Generations
from service.contracts.scores import FactScores, Metrics, Summaries
from worker.editing.progress import Steps
from worker.engine.generation import Wanted, decode
from worker.engine.resident import Resident
from worker.evaluation.metrics import fact_scores, measure, summaries
from worker.models.view import Weights

SHOWN_TOKENS = 12
"""Length of the continuations shown with an edit."""

SHOWN_FACTS = 4
"""Facts whose continuations are shown."""


@dataclass(frozen=True)
class Verdict:
    """What goes into an edit's outcome; `metrics` only of a single fact, prompt by prompt."""

    summary: Summaries
    facts: tuple[FactScores, ...]
    metrics: Metrics | None
    generations: tuple[Generations, ...]


def judge(resident: Resident, facts: Sequence[Fact], weights: Weights) -> Steps[Verdict]:
    """Measure all facts, and continue the first few prompts, on the base and with `weights`."""

    def sides(rows: int) -> AbstractContextManager[None]:
        return resident.view([{}] * rows + [weights] * rows)

    metrics = yield from measure(resident.loaded, facts, sides)
    scores = tuple(map(fact_scores, metrics))
    return Verdict(
        summary=summaries(scores),
        facts=scores,
        metrics=metrics[0] if len(metrics) == 1 else None,
        generations=_generations(resident, facts[:SHOWN_FACTS], weights),
    )


def _generations(resident: Resident, facts: Sequence[Fact], weights: Weights) -> tuple[Generations, ...]:
    rows = [Wanted(fact.prompt, 0, side, SHOWN_TOKENS) for fact in facts for side in ({}, weights)]
    texts = [continuation.text for continuation in decode(resident.loaded, resident.view, rows)]
    return tuple(
        Generations(prompt=fact.prompt, before=before, after=after)
        for fact, before, after in zip(facts, texts[::2], texts[1::2], strict=True)
    )
