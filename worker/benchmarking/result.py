"""From what came of every unit to a benchmark's result: means with intervals, times, curves."""

import json
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from service.contracts.benchmarks import BenchmarkRequest, MethodChoice, MethodResult, Mode, RecordOutcome, RecordResult
from service.contracts.records import Record
from worker.benchmarking.journal import Line
from worker.benchmarking.plan import Unit
from worker.editing.hparams import Hparams
from worker.evaluation.means import interval_of
from worker.evaluation.records import record_summaries

Done = Sequence[tuple[Unit, Line]]
"""One method's units, each with what came of it."""

UNDONE = RecordOutcome(problem="nothing could be scored", seconds=0.0)


def labels_of(methods: Sequence[MethodChoice]) -> list[str]:
    """The methods' names, with what was changed of each, so that no two are alike."""
    labels: list[str] = []
    for choice in methods:
        changes = ", ".join(f"{name}={json.dumps(value)}" for name, value in choice.hparams.items())
        label = f"{choice.method} ({changes})" if changes else choice.method
        again = sum(known == label or known.startswith(f"{label} #") for known in labels)
        labels.append(f"{label} #{again + 1}" if again else label)
    return labels


def outcomes_of(done: Done, records: int) -> list[RecordOutcome]:
    """What came of every record, each with its share of the time of its edit."""
    found: dict[int, RecordOutcome] = {}
    seconds: dict[int, float] = {}
    for unit, line in done:
        found |= line.outcomes
        if unit.edits:
            seconds |= dict.fromkeys(range(unit.begin, unit.end), line.seconds / unit.size)
    outcomes = (found.get(at, UNDONE) for at in range(records))
    return [one.model_copy(update={"seconds": seconds.get(at, 0.0)}) for at, one in enumerate(outcomes)]


def method_result(
    request: BenchmarkRequest, label: str, hparams: Hparams, done: Done, outcomes: Sequence[RecordOutcome]
) -> MethodResult:
    """One method's part."""
    scores = [outcome.scores for outcome in outcomes if outcome.scores is not None]
    took = [(unit, line) for unit, line in done if unit.edits and line.took]
    seconds, sizes = [line.seconds for _, line in took], [unit.size for unit, _ in took]
    drifts = [line.drift for _, line in done if line.drift is not None]
    if request.mode is Mode.SEQUENTIAL:
        drifts = drifts[-1:]
    ratios, divergences = [drift.perplexity_ratio for drift in drifts], [drift.kl for drift in drifts]
    intervals = {
        "perplexity_ratio": interval_of(ratios),
        "kl": interval_of(divergences),
        "seconds_per_edit": interval_of(seconds),
        "seconds_per_record": interval_of(seconds, sizes),
    }
    return MethodResult(
        method=request.methods[done[0][0].method].method,
        label=label,
        hparams=hparams.model_dump(mode="json"),
        scored=len(scores),
        failed=len(outcomes) - len(scores),
        edits=len(took),
        summary=record_summaries(scores) if scores else None,
        perplexity_ratio=fmean(ratios) if ratios else None,
        kl=fmean(divergences) if divergences else None,
        seconds_per_edit=fmean(seconds) if seconds else None,
        seconds_per_record=sum(seconds) / sum(sizes) if sizes else None,
        ci95={name: interval for name, interval in intervals.items() if interval is not None},
        timings=_sums(line.timings for _, line in done),
        checkpoints=tuple(line.checkpoint for _, line in done if line.checkpoint is not None),
        warnings=tuple(dict.fromkeys(warning for _, line in done for warning in line.warnings)),
    )


def record_results(records: Sequence[Record], outcomes: Sequence[Sequence[RecordOutcome]]) -> tuple[RecordResult, ...]:
    """Every record with what came of it, method by method; `outcomes` are each method's."""
    return tuple(
        RecordResult(record=record.model_copy(update={"reference_texts": ()}), outcomes=of_record)
        for record, of_record in zip(records, zip(*outcomes, strict=True), strict=True)
    )


def _sums(timings: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for each in timings:
        for phase, seconds in each.items():
            total[phase] = total.get(phase, 0.0) + seconds
    return total
