"""Scores whole records of a data set: their facts, what is asked of all of these together, and what is said freely."""

from collections.abc import Sequence

from service.contracts.records import Record
from service.contracts.scores import AnswerScore, RecordScores, RecordSide, Summaries, Summary
from worker.editing.progress import Steps
from worker.evaluation.asking import ask_fact, ask_questions
from worker.evaluation.generated import Say, Spoken, speak
from worker.evaluation.means import mean_of
from worker.evaluation.metrics import answer_score, fact_scores, metrics_of
from worker.evaluation.rows import SidesView, read_sides
from worker.evaluation.tfidf import Tfidf
from worker.models.loaded import LoadedModel
from worker.models.positions import Row


def measure_records(
    loaded: LoadedModel,
    records: Sequence[Record],
    sides_view: SidesView,
    say: Say | None = None,
    references: Tfidf | None = None,
) -> Steps[list[RecordScores]]:
    """Score records, in their order, on the base and on the edited weights; freely too, where there is a way to say.

    references: as `speak` takes them.
    """
    rows: list[Row] = []
    asked = [
        ([ask_fact(loaded, rows, fact) for fact in record.facts], ask_questions(loaded, rows, record.multi_hop))
        for record in records
    ]
    before, after = yield from read_sides(loaded, rows, sides_view)
    spoken: Sequence[tuple[Spoken, Spoken] | tuple[None, None]] = [(None, None)] * len(records)
    if say is not None:
        spoken = yield from speak(loaded, records, say, references)
    found = []
    for record, (facts, hops), (first, second) in zip(records, asked, spoken, strict=True):
        scores = tuple(fact_scores(metrics_of(fact, before, after)) for fact in facts)
        found.append(
            RecordScores(
                case_id=record.case_id,
                facts=scores,
                before=_side(
                    [score.before.summary for score in scores], [answer_score(q, before) for q in hops], first
                ),
                after=_side([score.after.summary for score in scores], [answer_score(q, after) for q in hops], second),
            )
        )
    return found


def record_summaries(scores: Sequence[RecordScores]) -> Summaries:
    """Means over records, with their intervals."""
    return Summaries(
        before=mean_of([score.before.summary for score in scores]),
        after=mean_of([score.after.summary for score in scores]),
    )


def _side(facts: Sequence[Summary], hops: Sequence[AnswerScore], spoken: Spoken | None) -> RecordSide:
    changes: dict[str, object] = {}
    if hops:
        changes["multi_hop_acc"] = float(any(hop.answer.accuracy == 1 for hop in hops))
    if spoken is not None:
        changes["generated"] = spoken.scores
    return RecordSide(
        summary=mean_of(facts, intervals=False).model_copy(update=changes),
        multi_hop=tuple(hops),
        texts=() if spoken is None else spoken.texts,
    )
