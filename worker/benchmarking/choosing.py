"""Which records a benchmark is about: those that can be used, drawn, and known where that is asked for."""

import random
from collections.abc import Callable, Sequence

from service.contracts.benchmarks import MOST_FAULTS, BenchmarkRequest
from service.contracts.edits import Fact
from service.contracts.records import Record
from service.contracts.scores import TargetScore
from service.datasets.sources import DatasetError, open_dataset
from service.errors import ProblemError, invalid
from worker.benchmarking.journal import Chosen
from worker.editing.progress import Step, Steps
from worker.evaluation.metrics import measure
from worker.evaluation.rows import SidesView
from worker.models.loaded import LoadedModel

AT_ONCE = 64
"""Records of which it is found out together whether they are known."""

Unfit = Callable[[Record], str | None]
"""Why the model cannot take a record; None where it can."""


def usable(request: BenchmarkRequest, unfit: Unfit) -> Chosen:
    """The records that are well and short enough, in the order of their source; why others are not.

    Raises a 422 problem if none is. May wait for a network, so it is not for the model thread.
    """
    records, faults = request.records, request.faults
    if not records:
        try:
            found = open_dataset(request.dataset)
        except DatasetError as error:
            raise invalid("dataset", str(error), "no-dataset") from error
        records, faults = found.records, tuple(map(str, found.faults))
    told = [(record, unfit(record)) for record in records]
    reasons = [f"case {record.case_id}: {why}" for record, why in told if why]
    fit = tuple(record for record, why in told if why is None)
    if not fit:
        raise invalid("records" if request.records else "dataset", f"no record can be used. {reasons[0]}", "no-records")
    return Chosen(records=fit, available=len(fit), faults=(*faults, *reasons)[:MOST_FAULTS])


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
    skipped = len(records) - len(asked)
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
        raise _none_holds(request, len(asked), skipped)
    told = (f"{skipped} without a target_true, which {_asked_for(request)} needs",) if skipped else ()
    faults = (*told, *of.faults)[:MOST_FAULTS]
    return of.model_copy(
        update={"records": tuple(found[: request.n]), "available": of.available - skipped, "faults": faults}
    )


def _asked_for(request: BenchmarkRequest) -> str:
    return "known_only" if request.known_only else "likelier_only"


def _none_holds(request: BenchmarkRequest, asked: int, skipped: int) -> ProblemError:
    """422: no record is as it was asked for; says which condition failed, and of how many."""
    if not asked:
        return invalid(_asked_for(request), f"none of its {skipped} records has a target_true", "no-records")
    wanted = (request.known_only, "the model's own answer"), (request.likelier_only, "likelier than target_new")
    conditions = " and ".join(text for on, text in wanted if on)
    detail = f"of the {asked} records with a target_true there is none where it is {conditions}"
    beside = f"; {skipped} more have none" if skipped else ""
    return invalid(_asked_for(request), detail + beside, "no-records")


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
