"""What an edit did, before it is committed: scores and continuations on the base and on the edited weights."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from service.contracts.edits import EditStatus, Fact, Generations, Outcome, Requirements
from service.contracts.generate import Sampling
from service.contracts.problem import Problem
from service.contracts.scores import FactScores, Metrics, Summaries
from service.errors import ProblemError
from worker.editing.progress import Steps
from worker.engine.generation import decode
from worker.engine.resident import Resident
from worker.engine.row import Wanted
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


@dataclass(frozen=True)
class Uncommitted:
    """How an edit ended that was computed and measured, and never became a revision."""

    status: EditStatus
    outcome: Outcome
    problem: Problem | None = None


def uncommitted(require: Requirements | None, outcome: Outcome, *, dry_run: bool) -> Uncommitted | None:
    """Why the measured edit is not to be committed: it misses a requirement, or is a dry run; None if it may be."""
    missed = [] if require is None else list(_missed(require, outcome))
    if missed:
        detail = f"Nothing was committed: {'; '.join(missed)}."
        return Uncommitted(EditStatus.REJECTED, outcome, ProblemError(422, "requirements-missed", detail).problem)
    return Uncommitted(EditStatus.MEASURED, outcome) if dry_run else None


def _missed(require: Requirements, outcome: Outcome) -> Iterator[str]:
    after = outcome.summary.after
    least = (
        ("efficacy", require.efficacy, "EA", after.EA),
        ("generality", require.generality, "PA", after.PA),
        ("locality", require.locality, "neighborhood_acc", after.neighborhood_acc),
    )
    for name, wanted, score, found in least:
        if wanted is not None and (found is None or found < wanted):
            reached = "unknown" if found is None else f"{found:.4g}"
            yield f"{name} asks for {score} of at least {wanted:g}, and it is {reached}"
    ratio = 1.0 if outcome.drift is None else outcome.drift.perplexity_ratio
    if require.max_perplexity_ratio is not None and not ratio <= require.max_perplexity_ratio:
        yield f"max_perplexity_ratio is {require.max_perplexity_ratio:g}, and the ratio is {ratio:.4g}"


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
    base: Weights = {}
    sampling = Sampling(max_new_tokens=SHOWN_TOKENS)
    rows = [Wanted(fact.prompt, 0, side, sampling) for fact in facts for side in (base, weights)]
    texts = [continuation.text for continuation in decode(resident.loaded, resident.view, rows)]
    return tuple(
        Generations(prompt=fact.prompt, before=before, after=after)
        for fact, before, after in zip(facts, texts[::2], texts[1::2], strict=True)
    )
