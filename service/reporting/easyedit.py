"""Results in the shape of EasyEdit's metrics: a list of records with `pre` and `post`."""

from collections.abc import Mapping
from typing import Any

from service.contracts.benchmarks import BenchmarkResult
from service.contracts.edits import Fact
from service.contracts.scores import Summary


def easyedit(result: BenchmarkResult) -> list[dict[str, Any]]:
    """One entry a fact and method, in EasyEdit's shape; `method` beside it tells whose, where there are several."""
    found = []
    for at, method in enumerate(result.methods):
        for record in result.records:
            outcome = record.outcomes[at]
            if outcome.scores is None:
                continue
            for fact, scores in zip(record.record.facts, outcome.scores.facts, strict=True):
                before, after = scores.before.summary, scores.after.summary
                if len(record.record.facts) == 1:  # what is said freely is of the record
                    before, after = outcome.scores.before.summary, outcome.scores.after.summary
                entry = entry_of(record.record.case_id, fact, before, after, outcome.seconds)
                found.append({**entry, "method": method.label} if len(result.methods) > 1 else entry)
    return found


def entry_of(case_id: int, fact: Fact, before: Summary, after: Summary, seconds: float | None) -> dict[str, Any]:
    """One fact's entry."""
    return {
        "case_id": case_id,
        "requested_rewrite": _requested(fact),
        **({} if seconds is None else {"time": seconds}),
        "pre": _side(before, edited=False),
        "post": _side(after, edited=True),
    }


def _requested(fact: Fact) -> dict[str, Any]:
    rephrase = {"rephrase_prompt": fact.paraphrases[0]} if fact.paraphrases else {}
    asked: dict[str, dict[str, Any]] = {
        kind: {
            name: {"prompt": [q.prompt for q in questions], "ground_truth": [q.answer for q in questions]}
            for name, questions in groups.items()
        }
        for kind, groups in (("portability", fact.portability), ("locality", fact.locality))
    }
    if fact.neighborhood and "neighborhood" not in asked["locality"]:
        truth = [fact.target_true] * len(fact.neighborhood)
        asked["locality"]["neighborhood"] = {"prompt": list(fact.neighborhood), "ground_truth": truth}
    return {
        "prompt": fact.prompt,
        "target_new": fact.target_new,
        "ground_truth": fact.target_true,
        **asked,
        "subject": fact.subject,
        **rephrase,
    }


def _side(summary: Summary, *, edited: bool) -> dict[str, Any]:
    """Lists of one number, as there; before the edit there is no locality, which compares both sides."""
    side: dict[str, Any] = {"rewrite_acc": [summary.rewrite_acc]}
    if summary.rephrase_acc is not None:
        side["rephrase_acc"] = [summary.rephrase_acc]
    side["portability"] = _lists(summary.portability)
    if edited:
        kept = {name: value for name, value in summary.locality.items() if name.endswith("_acc")}
        if summary.neighborhood_acc is not None:
            kept = {"neighborhood_acc": summary.neighborhood_acc, **kept}
        side["locality"] = _lists(kept)
    if summary.generated is not None and summary.generated.fluency is not None:
        side["fluency"] = {"ngram_entropy": summary.generated.fluency}
    return side


def _lists(values: Mapping[str, float]) -> dict[str, list[float]]:
    return {name: [value] for name, value in values.items()}
