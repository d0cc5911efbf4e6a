"""What RQ may ask for: to run the edit or the evaluation that is first in line."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from service.checks import CountTokens, check_edit, check_evaluation
from service.contracts.edits import AnyEditRequest, Edit
from service.contracts.evaluations import Evaluation, EvaluationRequest, EvaluationResult
from service.contracts.model import ModelCard
from service.contracts.revisions import Revision
from service.edits import Edits
from service.evaluations import Evaluations
from service.jobs import Jobs, in_line
from service.ledger import EditEndedError
from worker.editing.progress import Steps
from worker.engine.model_thread import ModelThread, StoppedError
from worker.engine.verdict import Uncommitted
from worker.job import Job

log = logging.getLogger(__name__)


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
class EvaluationJob(Job[Evaluation, EvaluationResult]):
    """Runs evaluations, each at one revision however often it is begun.

    resolve: the number of a revision's name, or a problem; start: scores what is asked at that revision.
    """

    evaluations: Evaluations
    thread: ModelThread
    card: ModelCard
    count_tokens: CountTokens
    resolve: Callable[[str | int], int]
    start: Callable[[EvaluationRequest, int], Steps[EvaluationResult]]
    draining: threading.Event
    stop: threading.Event
    fence: Callable[[], None]

    @property
    def jobs(self) -> Evaluations:
        """The evaluations' documents."""
        return self.evaluations

    def begin(self, job: Evaluation) -> Steps[EvaluationResult]:
        """The evaluation's computation, at the revision that its name means now or has meant at its first attempt."""
        check_evaluation(job.request, self.card, self.count_tokens)
        revision = job.revision
        if revision is None:
            revision = self.resolve(job.request.revision)
            self.evaluations.settle(job.id, revision)
        return self.start(job.request, revision)

    def conclude(self, job: Evaluation, result: EvaluationResult) -> None:
        """Write the scores down."""
        log.info("evaluation %s of r%d is completed", job.id, result.revision)
        self.fence()
        self.evaluations.complete(job.id, result)


@dataclass(frozen=True)
class Line:
    """Jobs of all kinds, run in the order of their arrival: whichever the bell was rung for, the first one is next."""

    kinds: Sequence[Job[Any, Any]]

    def __call__(self, _: str) -> None:
        """Run the job that is first in line, if there is one."""
        for noun, job_id in in_line(self.jobs)[:1]:
            next(kind for kind in self.kinds if kind.jobs.noun == noun)(job_id)

    @property
    def jobs(self) -> list[Jobs[Any, Any]]:
        """The documents of every kind."""
        return [kind.jobs for kind in self.kinds]
