"""Takes a benchmark up where it was left, runs the rest, and says what was found."""

from collections.abc import Mapping
from pathlib import Path

from service.contracts.benchmarks import Benchmark, BenchmarkRequest, BenchmarkResult
from service.ledger import Ledger
from worker.benchmarking.choosing import Unfit, choose, usable
from worker.benchmarking.journal import Chosen, Journal, Line, open_journal
from worker.benchmarking.result import Done, labels_of, method_result, outcomes_of, record_results
from worker.benchmarking.run import Base, Run
from worker.benchmarking.scoring import sides
from worker.editing.hparams import Hparams
from worker.editing.progress import Steps
from worker.engine.at_revision import weights_of
from worker.engine.computation import Computation
from worker.engine.history import History
from worker.engine.state import State

Known = Mapping[tuple[int, int], Line]


class Benchmarker:
    """Runs benchmarks on the resident model.

    folder: where their journals are kept; unfit: says why the model cannot take a record.
    """

    def __init__(self, history: History, ledger: Ledger, computation: Computation, folder: Path, unfit: Unfit) -> None:
        self._history = history
        self._ledger = ledger
        self._computation = computation
        self._folder = folder
        self._unfit = unfit

    def run(self, job: Benchmark, revision: int) -> Steps[BenchmarkResult]:
        """Open the data set, which may take a while, and return the computation, which is the model thread's."""
        journal = open_journal(self._folder, job.id)
        chosen = journal.chosen()
        hparams = [self._computation.hparams(choice.method, choice.hparams) for choice in job.request.methods]
        if chosen is not None:
            return self._steps(job.request, revision, journal, hparams, chosen)
        return self._begun(job.request, revision, journal, hparams, usable(job.request, self._unfit))

    def _begun(
        self, request: BenchmarkRequest, revision: int, journal: Journal, hparams: list[Hparams], found: Chosen
    ) -> Steps[BenchmarkResult]:
        resident = self._history.resident
        before = yield from weights_of(self._history, revision)
        chosen = yield from choose(resident.loaded, request, found, sides(resident, before, before))
        journal.choose(chosen)
        return (yield from self._steps(request, revision, journal, hparams, chosen))

    def _steps(
        self, request: BenchmarkRequest, revision: int, journal: Journal, hparams: list[Hparams], chosen: Chosen
    ) -> Steps[BenchmarkResult]:
        resident = self._history.resident
        yield from weights_of(self._history, revision)  # which are checked
        deltas = list(self._history.deltas_at(revision))
        base = Base(State.fold(resident, deltas), deltas)
        labels = labels_of(request.methods)
        run = Run(self._history, self._computation, journal, request, chosen.records, labels, hparams)
        done = yield from run.run(base, journal.lines())
        journal.drop_deltas()
        return self._result(request, revision, chosen, labels, hparams, done)

    def _result(
        self,
        request: BenchmarkRequest,
        revision: int,
        chosen: Chosen,
        labels: list[str],
        hparams: list[Hparams],
        done: list[Done],
    ) -> BenchmarkResult:
        loaded = self._history.resident.loaded
        outcomes = [outcomes_of(each, len(chosen.records)) for each in done]
        methods = map(method_result, [request] * len(done), labels, hparams, done, outcomes)
        return BenchmarkResult(
            revision=revision,
            checksum=self._ledger.entries()[revision].checksum,
            model=loaded.name,
            dtype=str(loaded.dtype).removeprefix("torch."),
            device=str(loaded.device),
            dataset=request.dataset,
            available=chosen.available,
            faults=chosen.faults,
            methods=tuple(methods),
            records=record_results(chosen.records, outcomes),
        )
