"""A benchmarker on a tiny model's engine, with records that it can edit."""

from pathlib import Path
from typing import Any

from service.contracts.benchmarks import Benchmark, BenchmarkRequest, BenchmarkResult
from service.contracts.jobs import JobStatus
from service.contracts.records import Record
from service.jobs import utcnow
from tests.driving import finish
from tests.worker.engine.desk import BATCH, DEFAULTS, DIRECT, MEMIT
from tests.worker.engine.kit import Stand
from worker.benchmarking.benchmarker import Benchmarker
from worker.editing.method import discover
from worker.editing.progress import Steps
from worker.engine.computation import Computation
from worker.statistics.store import StatisticsStore

FAST: dict[str, Any] = {"v_num_grad_steps": 2, "context_templates": [""]}
RECORDS = [Record.model_validate({"case_id": 10 + at, "facts": [fact]}) for at, fact in enumerate([*BATCH, *DIRECT])]
"""Six records of one fact each."""


def request(*methods: str | dict[str, Any], **fields: Any) -> BenchmarkRequest:
    """A request for some of RECORDS, quick to carry out; rome unless told otherwise."""
    chosen = [{"method": each, "hparams": FAST} if isinstance(each, str) else each for each in methods or ("rome",)]
    return BenchmarkRequest.model_validate({"records": RECORDS, "methods": chosen, **fields})


def benchmarker(stand: Stand, folder: Path) -> Benchmarker:
    """As a worker has it, with values for two methods; a record of one word is taken to be too long."""
    store = StatisticsStore(stand.loaded, stand.resident.base_checksum, stand.blobs_folder.parent / "statistics")
    defaults: dict[str, Any] = {"rome": DEFAULTS, "memit": MEMIT}
    computation = Computation(stand.resident, discover(), defaults.get, store)

    def unfit(record: Record) -> str | None:
        return "facts[0].prompt: too long" if record.case_id == 99 else None

    return Benchmarker(stand.history, stand.ledger, computation, folder / "benchmarks", unfit)


def job(asked: BenchmarkRequest, benchmark_id: str = "b" * 16) -> Benchmark:
    """The document of a running benchmark."""
    return Benchmark(id=benchmark_id, status=JobStatus.RUNNING, created_at=utcnow(), request=asked)


def begin(stand: Stand, folder: Path, asked: BenchmarkRequest, revision: int = 0) -> Steps[BenchmarkResult]:
    """The computation, taken up from what is in the folder."""
    return benchmarker(stand, folder).run(job(asked), revision)


def run(stand: Stand, folder: Path, asked: BenchmarkRequest, revision: int = 0) -> BenchmarkResult:
    """The result of a benchmark, run to its end."""
    return finish(begin(stand, folder, asked, revision))


def timeless(result: BenchmarkResult) -> BenchmarkResult:
    """All of a result but how long anything took."""
    none: dict[str, Any] = {"seconds_per_edit": None, "seconds_per_record": None, "timings": {}}
    records = [
        one.model_copy(update={"outcomes": tuple(o.model_copy(update={"seconds": 0.0}) for o in one.outcomes)})
        for one in result.records
    ]
    methods = [
        method.model_copy(update={**none, "ci95": {k: v for k, v in method.ci95.items() if k not in none}})
        for method in result.methods
    ]
    return result.model_copy(update={"methods": tuple(methods), "records": tuple(records)})
