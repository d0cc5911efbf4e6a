"""Scores facts with the weights of any revision against the base; the model stays as it is."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from service.checks import nothing_active
from service.contracts.edits import Fact
from service.contracts.evaluations import EvaluationRequest, EvaluationResult, ScoredFact
from service.contracts.scores import Metrics
from service.edits import Edits
from service.ledger import Ledger
from worker.editing.progress import Step, Steps, timed
from worker.engine.at_revision import weights_of
from worker.engine.history import History
from worker.evaluation.metrics import fact_scores, measure, summaries


@dataclass(frozen=True)
class _Chosen:
    """A fact to be scored, and the active edit that it comes from."""

    fact: Fact
    edit: str | None = None


class Evaluator:
    """Computes evaluations on the resident model. Runs on the model thread."""

    def __init__(self, history: History, ledger: Ledger, edits: Edits) -> None:
        self._history = history
        self._ledger = ledger
        self._edits = edits

    def run(self, request: EvaluationRequest, revision: int) -> Steps[EvaluationResult]:
        """Score what is asked, given or active, at a revision that exists, however the head moves meanwhile."""
        seconds: dict[str, float] = {}
        if request.facts == "active":
            found = yield from timed(self._active(revision), seconds, "collect")
        else:
            found = [_Chosen(fact) for fact in request.facts]
        chosen = _latest(found)
        weights = yield from timed(weights_of(self._history, revision), seconds, "fold")

        def sides(rows: int) -> AbstractContextManager[None]:
            return self._history.resident.view([{}] * rows + [weights] * rows)

        facts = [each.fact for each in chosen]
        metrics = yield from timed(measure(self._history.resident.loaded, facts, sides), seconds, "measure")
        entry = self._ledger.entries()[revision]
        scored = tuple(map(_scored, chosen, metrics))
        return EvaluationResult(
            revision=revision,
            checksum=entry.checksum,
            summary=summaries(scored),
            facts=scored,
            skipped=len(found) - len(chosen),
            drift=entry.drift,
            timings=seconds,
        )

    def _active(self, revision: int) -> Steps[list[_Chosen]]:
        """All facts of the edits in force, in the order of the ledger."""
        active = [entry.edit or "" for entry in self._ledger.active(revision)]
        if not active:
            raise nothing_active(f"r{revision}")
        found: list[_Chosen] = []
        for number, edit_id in enumerate(active, 1):
            found += (_Chosen(fact, edit_id) for fact in self._edits.get(edit_id).request.facts)
            yield Step("collect", number, len(active))
        return found


def _scored(chosen: _Chosen, metrics: Metrics) -> ScoredFact:
    scores, fact = fact_scores(metrics), chosen.fact
    return ScoredFact(
        before=scores.before,
        after=scores.after,
        prompt=fact.prompt,
        subject=fact.subject,
        target_new=fact.target_new,
        edit=chosen.edit,
    )


def _latest(found: Sequence[_Chosen]) -> list[_Chosen]:
    """Without those whose prompt and subject a later edit has rewritten."""
    latest = {(each.fact.prompt, each.fact.subject): each.edit for each in found}
    return [each for each in found if latest[each.fact.prompt, each.fact.subject] == each.edit]
