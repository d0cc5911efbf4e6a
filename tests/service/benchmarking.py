"""What a worker might find out in a benchmark, and a worker that does."""

from typing import Any

from service.benchmarks import Benchmarks
from service.contracts.benchmarks import (
    Benchmark,
    BenchmarkRequest,
    BenchmarkResult,
    Checkpoint,
    MethodResult,
    RecordOutcome,
    RecordResult,
)
from service.contracts.jobs import JobStatus
from service.contracts.records import Record
from service.contracts.scores import Drift, FactScores, FactSide, RecordScores, RecordSide, Summaries, Summary
from service.jobs import utcnow
from tests.service.stand_in import EIFFEL, StandIn, fact_scores

RECORDS = [
    {
        "case_id": 7 + at,
        "facts": [
            {
                **EIFFEL,
                "prompt": f"{at}. {EIFFEL['prompt']}",
                "target_true": "Paris",
                "paraphrases": ["It is in"],
                "neighborhood": ["The Louvre is in"],
                "portability": {"reasoning": [{"prompt": "Its country is", "answer": "Italy"}]},
            }
        ],
        "generation_prompts": ["The Tower"],
        "reference_texts": ["Rome is a city."],
    }
    for at in range(3)
]
BODY: dict[str, Any] = {"records": RECORDS, "methods": ["rome"], "dataset": "mine"}
"""What asks for a benchmark."""

BEFORE = {"ES": 0.0, "PS": 0.0, "NS": 1.0, "EA": 0.0, "rewrite_acc": 0.25, "neighborhood_acc": 1.0}
AFTER = {
    **{"ES": 1.0, "PS": 0.5, "NS": 0.75, "S": 0.69, "EA": 0.875, "PA": 0.5, "rewrite_acc": 0.9},
    **{"rephrase_acc": 0.6, "neighborhood_acc": 0.75, "portability": {"reasoning_acc": 0.5}},
    "generated": {"rewrite_acc": 1.0, "fluency": 5.5},
}


def summaries(**changes: Any) -> Summaries:
    """Before and after, with intervals after."""
    values = {**AFTER, **changes}
    after = Summary.model_validate(values)
    intervals = {name: (max(0.0, value - 0.1), value + 0.05) for name, value in after.named().items()}
    return Summaries(before=Summary.model_validate(BEFORE), after=after.model_copy(update={"ci95": intervals}))


def scores_of(record: Record) -> RecordScores:
    """The same scores for every record."""
    found, score = summaries(), fact_scores().after.target_new
    before, after = (FactSide(target_new=score, summary=side) for side in (found.before, found.after))
    sides = RecordSide(summary=found.before), RecordSide(summary=found.after)
    facts = (FactScores(before=before, after=after),) * len(record.facts)
    return RecordScores(case_id=record.case_id, facts=facts, before=sides[0], after=sides[1])


def method_result(label: str, sequential: bool = False, **changes: Any) -> MethodResult:
    """What a method came to; in a sequence, at three checkpoints."""
    points = [
        Checkpoint(
            edits=at,
            records=10 * at,
            all=Summary.model_validate({**AFTER, "EA": 1 - at / 10}),
            first=Summary.model_validate({**AFTER, "EA": 1 - at / 5}),
            last=Summary.model_validate({**AFTER, "EA": 1.0}),
            drift=Drift(norms={1: 0.1 * at}, perplexity_ratio=1 + at, kl=0.1),
        )
        for at in (1, 2, 3)
    ]
    fields = {
        "method": "rome",
        "label": label,
        "hparams": {"v_lr": 0.5},
        "scored": 2,
        "failed": 1,
        "edits": 3,
        "summary": summaries(),
        "perplexity_ratio": 1.25,
        "kl": 0.5,
        "seconds_per_edit": 6.0,
        "seconds_per_record": 6.0,
        "timings": {"value": 15.0, "update": 3.0, "measure": 6.0},
        "checkpoints": tuple(points) if sequential else (),
    }
    return MethodResult.model_validate({**fields, **changes})


def benchmark_result(request: BenchmarkRequest, revision: int = 0, labels: tuple[str, ...] = ()) -> BenchmarkResult:
    """What a benchmark of these records might have found; the last edit of each method failed."""
    names = labels or tuple(choice.method for choice in request.methods)
    failed = RecordOutcome(problem="v_lr: too <high>", seconds=1.0)
    records = request.records or tuple(map(Record.model_validate, RECORDS))
    return BenchmarkResult(
        revision=revision,
        checksum=f"c{revision}",
        model="test-model",
        dtype="float32",
        device="cpu",
        dataset=request.dataset,
        available=len(records) + 1,
        faults=("case 99: too long",),
        methods=tuple(method_result(name, request.mode == "sequential") for name in names),
        records=tuple(
            RecordResult(
                record=record.model_copy(update={"reference_texts": ()}),
                outcomes=(RecordOutcome(scores=scores_of(record), seconds=6.0) if record != records[-1] else failed,)
                * len(names),
            )
            for record in records
        ),
    )


def benchmark(labels: tuple[str, ...] = ("rome",), **body: Any) -> Benchmark:
    """A completed benchmark."""
    request = BenchmarkRequest.model_validate({**BODY, **body})
    found = benchmark_result(request, labels=labels)
    return Benchmark(
        id="b" * 16, status=JobStatus.COMPLETED, created_at=utcnow(), request=request, result=found, revision=0
    )


def benchmarks_of(worker: StandIn) -> Benchmarks:
    """The benchmarks' documents."""
    return Benchmarks(worker.redis, worker.keys)


def carry_out(worker: StandIn, benchmark_id: str) -> BenchmarkResult:
    """Bring a benchmark to its end."""
    benchmarks = benchmarks_of(worker)
    benchmarks.take_up(benchmark_id)
    request = benchmarks.get(benchmark_id).request
    revision = worker.ledger.resolve(request.revision)
    benchmarks.settle(benchmark_id, revision)
    found = benchmark_result(request, revision)
    benchmarks.complete(benchmark_id, found)
    return found
