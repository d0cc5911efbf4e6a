"""Scores of edited records, as outcomes; what cannot be written down as a number is no score."""

import json
from collections.abc import Mapping, Sequence

from service.contracts.benchmarks import Checkpoint, RecordOutcome
from service.contracts.records import Record
from service.contracts.scores import Drift, RecordScores, Summary
from worker.editing.progress import Steps
from worker.engine.resident import Resident
from worker.engine.speaking import speaker
from worker.evaluation.means import mean_of
from worker.evaluation.records import measure_records
from worker.evaluation.rows import SidesView
from worker.evaluation.tfidf import Tfidf
from worker.models.view import Weights

NOT_FINITE = "the edited model says nothing that is a number any more; lower the method's learning rate or its clamp"


def sides(resident: Resident, before: Weights, after: Weights) -> SidesView:
    """Both sides of every row."""
    return lambda rows: resident.view([before] * rows + [after] * rows)


def score(
    resident: Resident, records: Sequence[Record], before: Weights, after: Weights, references: Tfidf | None
) -> Steps[list[RecordScores]]:
    """The scores of records with weights, against other weights; freely too, where there are references.

    references: fitted to all records of the benchmark.
    """
    say = None if references is None else speaker(resident, after, before)
    view = sides(resident, before, after)
    return measure_records(resident.loaded, records, view, say, references)


def outcome(scores: RecordScores, seconds: float) -> RecordOutcome:
    """One record's outcome; a failure where a score is not finite."""
    if is_finite(scores):
        return RecordOutcome(scores=scores, seconds=seconds)
    return RecordOutcome(problem=NOT_FINITE, seconds=seconds)


def is_finite(value: RecordScores | Drift) -> bool:
    """Whether all its numbers are."""
    try:
        json.dumps(value.model_dump(), allow_nan=False)
    except ValueError:
        return False
    return True


def checkpoint(
    edits: int, outcomes: Mapping[int, RecordOutcome], first: range, last: range, drift: Drift
) -> Checkpoint | None:
    """What a sequence has come to, from the outcomes of all records so far; None if nothing could be scored."""
    everything = _after(outcomes, range(max(outcomes, default=-1) + 1))
    if not everything:
        return None
    of_first, of_last = _after(outcomes, first), _after(outcomes, last)
    return Checkpoint(
        edits=edits,
        records=len(everything),
        all=mean_of(everything),
        first=mean_of(of_first or everything),
        last=mean_of(of_last or everything),
        drift=drift,
    )


def _after(outcomes: Mapping[int, RecordOutcome], records: range) -> list[Summary]:
    known = (outcomes[at].scores for at in records if at in outcomes)
    return [scores.after.summary for scores in known if scores is not None]
