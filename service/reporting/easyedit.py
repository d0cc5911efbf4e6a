"""Results in the shape of EasyEdit's metrics: a list of records with `pre` and `post`.

Unlike theirs it has neither tokens (`<group>_output`) nor `metric_meta`, and groups are called as the record calls
them: of a file of KnowEdit in small letters.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from service.contracts.benchmarks import BenchmarkResult
from service.contracts.edits import Fact
from service.contracts.scores import FactScores, FactSide, RecordScores, Summary

Fluency = tuple[float | None, float | None]
"""Before and after; None where nothing was said freely."""

UNKNOWN: Fluency = (None, None)


def easyedit(result: BenchmarkResult) -> list[dict[str, Any]]:
    """One entry a fact and method, in EasyEdit's shape; `method` beside it tells whose, where there are several."""
    found = []
    for at, method in enumerate(result.methods):
        for record in result.records:
            outcome = record.outcomes[at]
            if outcome.scores is None:
                continue
            # What is said freely is of the record.
            fluency = fluency_of(outcome.scores) if len(record.record.facts) == 1 else UNKNOWN
            for fact, scores in zip(record.record.facts, outcome.scores.facts, strict=True):
                entry = entry_of(record.record.case_id, _requested(fact), scores, fluency, outcome.seconds)
                found.append({**entry, "method": method.label} if len(result.methods) > 1 else entry)
    return found


def fluency_of(scores: RecordScores) -> Fluency:
    """Of what both sides said freely."""
    before, after = scores.before.summary.generated, scores.after.summary.generated
    return None if before is None else before.fluency, None if after is None else after.fluency


def entry_of(
    case_id: int, requested: Mapping[str, Any], scores: FactScores, fluency: Fluency, seconds: float
) -> dict[str, Any]:
    """One fact's entry; requested: the fact in EasyEdit's words."""
    before, after = fluency
    return {
        "case_id": case_id,
        "requested_rewrite": dict(requested),
        "time": seconds,
        "pre": _side(scores.before, before, edited=False),
        "post": _side(scores.after, after, edited=True),
    }


def _requested(fact: Fact) -> dict[str, Any]:
    asked = {
        kind: {name: _group([q.prompt for q in group], [q.answer for q in group]) for name, group in groups.items()}
        for kind, groups in (("portability", fact.portability), ("locality", fact.locality))
    }
    if fact.neighborhood and "neighborhood" not in asked["locality"]:
        truth = [fact.target_true] * len(fact.neighborhood)
        asked["locality"]["neighborhood"] = _group(fact.neighborhood, truth)
    return {
        "prompt": fact.prompt,
        "target_new": fact.target_new,
        "ground_truth": fact.target_true,
        **asked,
        "subject": fact.subject,
        **({"rephrase_prompt": _one_or_all(fact.paraphrases)} if fact.paraphrases else {}),
    }


def _group(prompts: Sequence[str], answers: Sequence[str | None]) -> dict[str, Any]:
    return {"prompt": _one_or_all(prompts), "ground_truth": _one_or_all(answers)}


def _one_or_all(values: Sequence[str | None]) -> Any:
    """A question alone is no list, as in EasyEdit's tutorial."""
    return values[0] if len(values) == 1 else list(values)


def _side(side: FactSide, fluency: float | None, *, edited: bool) -> dict[str, Any]:
    """Lists with a value a prompt; results from before these were kept have the mean of each list instead.

    Before the edit there is no locality, which compares both sides.
    """
    summary = side.summary
    found: dict[str, Any] = {"rewrite_acc": [summary.rewrite_acc]}
    if summary.rephrase_acc is not None:
        found["rephrase_acc"] = _values(side, "rephrase_acc", summary.rephrase_acc)
    found["portability"] = {
        name: _values(side, f"portability.{name}", mean) for name, mean in summary.portability.items()
    }
    if edited:
        found["locality"] = _locality(side, summary)
    if fluency is not None:
        found["fluency"] = {"ngram_entropy": fluency}
    return found


def _locality(side: FactSide, summary: Summary) -> dict[str, list[float]]:
    """Neighbours count as a group, unless one is called so."""
    kept = {
        name: _values(side, f"locality.{name}", mean)
        for name, mean in summary.locality.items()
        if name.endswith("_acc")
    }
    if summary.neighborhood_acc is not None:
        kept = {"neighborhood_acc": _values(side, "neighborhood_acc", summary.neighborhood_acc), **kept}
    return kept


def _values(side: FactSide, name: str, mean: float) -> list[float]:
    return list(side.each.get(name, (mean,)))
