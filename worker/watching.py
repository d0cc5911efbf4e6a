"""What is done around every job, of whatever kind: whose it is, how long it took, and a span for each of its phases."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from service.contracts.benchmarks import Benchmark
from service.contracts.edits import Edit, EditStatus
from service.contracts.evaluations import Evaluation
from service.contracts.jobs import JobStatus
from service.contracts.traces import Trace
from service.jobs import Jobs
from service.origin import in_name_of
from service.spans import Spans
from worker.editing.progress import Steps
from worker.telemetry import Telemetry

Result = TypeVar("Result")

NO_METHOD, UNKNOWN = "none", "unknown"
"""In place of a method: of jobs that name none or several, and of one that there is not."""

log = logging.getLogger(__name__)


class Watching:
    """Tells of jobs as they are run. methods: those that there are; clients may name others."""

    def __init__(self, telemetry: Telemetry, spans: Spans, methods: Collection[str]) -> None:
        self._telemetry = telemetry
        self._spans = spans
        self._methods = frozenset(methods) | {NO_METHOD}
        for method in methods:
            telemetry.expect(Edit.noun, method, _ends(set(EditStatus) - {EditStatus.REVERTED}))
        for noun in (Evaluation.noun, Trace.noun, Benchmark.noun):
            telemetry.expect(noun, NO_METHOD, _ends(JobStatus))

    @contextmanager
    def around(self, jobs: Jobs[Any, Any], job_id: str) -> Iterator[None]:
        """Run a job in here: in the name of the request that asked for it."""
        with in_name_of(jobs.origin(job_id)):
            with self._spans.within(jobs.noun, "CONSUMER", **{"palimpsest.job": job_id}):
                yield
            self._tell(jobs, job_id)

    def phased(self, start: Callable[..., Steps[Result]]) -> Callable[..., Steps[Result]]:
        """What starts a computation, with a span for every phase of it, where anybody sees them."""
        if not self._spans.on:
            return start
        return lambda *asked: _phased(start(*asked), self._spans)

    def _tell(self, jobs: Jobs[Any, Any], job_id: str) -> None:
        """One that was handed back, or not taken up, has not ended, and is told of when it has."""
        job = jobs.glance(job_id)
        if not job.status.ended or job.started_at is None or job.ended_at is None:
            return
        if job.status == JobStatus.CANCELLED:  # every other end is told where it is come to
            log.info("%s %s is cancelled", jobs.noun, job_id)
        found = getattr(job, "outcome", None) or getattr(job, "result", None)
        method = getattr(job.request, "method", NO_METHOD)
        self._telemetry.job_ended(
            jobs.noun,
            method if method in self._methods else UNKNOWN,
            job.status,
            (job.started_at - job.created_at).total_seconds(),
            (job.ended_at - job.started_at).total_seconds(),
            found.timings if found is not None else {},
        )


def _ends(statuses: Iterable[EditStatus] | Iterable[JobStatus]) -> list[str]:
    return [status for status in statuses if status.ended]


def _phased(steps: Steps[Result], spans: Spans) -> Steps[Result]:
    """Drive `steps`; a step says of which phase it was when it is over, so a span is made when its phase is."""
    phase, phase_began = "", time.time_ns()
    try:
        while True:
            began = time.time_ns()
            try:
                step = next(steps)
            except StopIteration as end:
                result: Result = end.value
                return result
            if step.phase != phase:
                if phase:
                    spans.past(phase, phase_began, began)
                phase, phase_began = step.phase, began
            yield step
    finally:
        if phase:
            spans.past(phase, phase_began, time.time_ns())
        steps.close()
