"""Which records a benchmark is about: those that can be used, drawn, and known where that is asked for."""

import random
from collections.abc import Callable, Sequence

from service.contracts.benchmarks import BenchmarkRequest
from service.contracts.edits import Fact
from service.contracts.records import Record
from service.contracts.scores import TargetScore
from service.datasets.sources import DatasetError, open_dataset
from service.errors import invalid
from worker.benchmarking.journal import Chosen
from worker.editing.progress import Step, Steps
from worker.evaluation.metrics import measure
from worker.evaluation.rows import SidesView
from worker.models.loaded import LoadedModel

AT_ONCE = 64
"""Records of which it is found out together whether they are known."""

MOST_FAULTS = 100
"""Faults that a result tells of."""

Unfit = Callable[[Record], str | None]
"""Why the model cannot take a record; None where it can."""


def usable(request: BenchmarkRequest, unfit: Unfit) -> Chosen:
    """The records that are well and short enough, in the order of their source; why others are not.

    Raises a 422 problem if none is. May wait for a network, so it is not for the model thread.
    """
    records, faults = request.records, list[str]()
    if not records:
        try:
            found = open_dataset(request.dataset)
        except DatasetError as error:
            raise invalid("dataset", str(error), "no-dataset") from error
        records, faults = found.records, [str(fault) for fault in found.faults]
    told = [(record, unfit(record)) for record in records]
    faults += [f"case {record.case_id}: {why}" for record, why in told if why]
    fit = tuple(record for record, why in told if why is None)
    if not fit:
        raise invalid("records" if request.records else "dataset", f"no record can be used. {faults[0]}", "no-records")
    return Chosen(records=fit, available=len(fit), faults=tuple(faults[:MOST_FAULTS]))


def choose(loaded: LoadedModel, request: BenchmarkRequest, of: Chosen, before: SidesView) -> Steps[Chosen]:
    """The first n, or n drawn; of those whose target_true the model knows before any edit, if that is asked for.

    before: a view in which both sides see the weights without an edit. Raises a 422 problem if none is left.
    """
    records = list(of.records)
    if request.seed is not None:
        random.Random(request.seed).shuffle(records)  # noqa: S311 - a sample, not a secret
    if not (request.known_only or request.likelier_only):
        return of.model_copy(update={"records": tuple(records[: request.n])})
    found: list[Record] = []
    asked = [record for record in records if all(fact.target_true is not None for fact in record.facts)]
    for begin in range(0, len(asked), AT_ONCE):
        group = asked[begin : begin + AT_ONCE]
        bare = [_bare(fact) for record in group for fact in record.facts]
        scores = iter((yield from measure(loaded, bare, before)))
        for record in group:
            sides = [next(scores).before.rewrite for _ in record.facts]
            if all(_holds(request, side.target_true, side.target_new) for side in sides):
                found.append(record)
        yield Step("choose", min(len(found), request.n), request.n)
        if len(found) >= request.n:
            break
    if not found:
        raise invalid("dataset", "the model knows target_true of none of its records", "no-records")
    return of.model_copy(update={"records": tuple(found[: request.n])})


def _holds(request: BenchmarkRequest, true: TargetScore | None, new: TargetScore) -> bool:
    if true is None:
        return False
    known = not request.known_only or true.accuracy == 1
    return known and (not request.likelier_only or true.nll < new.nll)


def _bare(fact: Fact) -> Fact:
    """The fact without whatever is asked beside it."""
    return Fact(prompt=fact.prompt, subject=fact.subject, target_new=fact.target_new, target_true=fact.target_true)


def facts_of(records: Sequence[Record]) -> list[Fact]:
    """All their facts, in order."""
    return [fact for record in records for fact in record.facts]
