"""What RQ may ask for: to run the job that is first in line, be it an edit, an evaluation, a trace or a benchmark."""

import logging
import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from service.checks import CountTokens, check_benchmark, check_edit, check_evaluation, check_trace
from service.contracts.benchmarks import Benchmark, BenchmarkResult
from service.contracts.edits import AnyEditRequest, Edit
from service.contracts.evaluations import Evaluation, EvaluationResult
from service.contracts.jobs import ReadingJob
from service.contracts.model import ModelCard
from service.contracts.revisions import Revision
from service.contracts.traces import Trace, TraceResult
from service.edits import Edits
from service.jobs import Jobs, ReadingJobs, in_line
from service.ledger import EditEndedError
from worker.editing.progress import Steps
from worker.engine.model_thread import ModelThread, StoppedError
from worker.engine.verdict import Uncommitted
from worker.job import Job

log = logging.getLogger(__name__)

Read = TypeVar("Read", bound=ReadingJob[Any])

Result = TypeVar("Result", EvaluationResult, TraceResult, BenchmarkResult)


@dataclass(frozen=True)
class EditJob(Job[Edit, Revision | Uncommitted]):
    """Runs edits: the head moves, or nothing has changed."""

    edits: Edits
    thread: ModelThread
    card: ModelCard
    count_tokens: CountTokens
    start: Callable[[str, AnyEditRequest], Steps[Revision | Uncommitted]]
    draining: threading.Event
    stop: threading.Event
    fence: Callable[[], None]

    @property
    def jobs(self) -> Edits:
        """The edits' documents."""
        return self.edits

    def begin(self, job: Edit) -> Steps[Revision | Uncommitted]:
        """The edit's computation and commit."""
        check_edit(job.request, self.card, self.count_tokens)
        return self._committed(job)

    def conclude(self, job: Edit, result: Revision | Uncommitted) -> None:
        """Write down why nothing was committed; a commit has ended the edit itself."""
        if isinstance(result, Uncommitted):
            log.info("edit %s is %s", job.id, result.status)
            self.fence()
            self.edits.end(job.id, result.status, result.problem, result.outcome)
        else:
            log.info("edit %s is applied as r%d", job.id, result.revision)

    def _committed(self, edit: Edit) -> Steps[Revision | Uncommitted]:
        try:
            return (yield from self.start(edit.id, edit.request))
        except EditEndedError as error:  # cancelled at the last moment
            raise StoppedError from error


@dataclass(frozen=True)
class AtRevision(Job[Read, Result], Generic[Read, Result]):
    """Runs jobs that leave the model as it is, each at one revision however often it is begun.

    resolve: the number of a revision's name, or a problem; start: computes what is asked at that revision.
    """

    documents: ReadingJobs[Any, Read]
    thread: ModelThread
    card: ModelCard
    count_tokens: CountTokens
    resolve: Callable[[str | int], int]
    start: Callable[[Any, int], Steps[Result]]
    draining: threading.Event
    stop: threading.Event
    fence: Callable[[], None]

    @property
    def jobs(self) -> ReadingJobs[Any, Read]:
        """The documents of this kind."""
        return self.documents

    @abstractmethod
    def check(self, request: Any) -> None:
        """Raise a problem if the model cannot take what is asked."""

    def begin(self, job: Read) -> Steps[Result]:
        """The computation, at the revision that its name means now or has meant at its first attempt."""
        self.check(job.request)
        revision = job.revision
        if revision is None:
            revision = self.resolve(job.request.revision)
            self.documents.settle(job.id, revision)
        return self.started(job, revision)

    def started(self, job: Read, revision: int) -> Steps[Result]:
        """The computation, which need not know whose it is."""
        return self.start(job.request, revision)

    def conclude(self, job: Read, result: Result) -> None:
        """Write down what was found."""
        log.info("%s %s of r%d is completed", job.noun, job.id, result.revision)
        self.fence()
        self.documents.complete(job.id, result)


class EvaluationJob(AtRevision[Evaluation, EvaluationResult]):
    """Runs evaluations."""

    def check(self, request: Any) -> None:
        """The facts must fit into the context."""
        check_evaluation(request, self.card, self.count_tokens)


class TraceJob(AtRevision[Trace, TraceResult]):
    """Runs traces."""

    def check(self, request: Any) -> None:
        """The prompt with its answer must be short enough."""
        check_trace(request, self.card, self.count_tokens)


class BenchmarkJob(AtRevision[Benchmark, BenchmarkResult]):
    """Runs benchmarks; one that is begun again goes on where it was."""

    def check(self, request: Any) -> None:
        """The methods must be there; what records are too long is the result's to say."""
        check_benchmark(request, self.card)

    def started(self, job: Benchmark, revision: int) -> Steps[BenchmarkResult]:
        """The computation, which keeps a journal by the job's id."""
        return self.start(job, revision)


@dataclass(frozen=True)
class Line:
    """Jobs of all kinds, run in the order of their arrival: whichever the bell was rung for, the first one is next.

    around: entered while a job is run, given the documents of its kind and its id.
    """

    kinds: Sequence[Job[Any, Any]]
    around: Callable[[Jobs[Any, Any], str], AbstractContextManager[None]] = lambda *_: nullcontext()

    def __call__(self, _: str) -> None:
        """Run the job that is first in line, if there is one."""
        for noun, job_id in in_line(self.jobs)[:1]:
            kind = next(kind for kind in self.kinds if kind.jobs.noun == noun)
            with self.around(kind.jobs, job_id):
                kind(job_id)

    @property
    def jobs(self) -> list[Jobs[Any, Any]]:
        """The documents of every kind."""
        return [kind.jobs for kind in self.kinds]
