"""RQ's SimpleWorker, hardened: one process that keeps its model runs one kind of job and cannot be torn."""

import signal
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from redis import Redis
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.timeouts import BaseDeathPenalty

WORKER_SECONDS = 30
"""RQ forgets a worker that has been silent for so long."""

MAINTENANCE_SECONDS = 15


class NoDeathPenalty(BaseDeathPenalty):  # type: ignore[misc]
    """Does nothing: an alarm in the middle of a write would tear it. Long steps end between steps."""

    def setup_death_penalty(self) -> None:
        """Set nothing up."""

    def cancel_death_penalty(self) -> None:
        """Cancel nothing."""


class AllowedJob(Job):  # type: ignore[misc]
    """A job whose function must be one of the worker's own; a name is never imported, a callback's neither."""

    functions: Mapping[str, Callable[..., Any]]
    success_callback = failure_callback = stopped_callback = None

    @property
    def func(self) -> Callable[..., Any]:
        """The function of that name; PermissionError for any other."""
        if self.func_name not in self.functions:
            raise PermissionError(f"{self.func_name!r} is not a job of this worker")
        return self.functions[self.func_name]


class EditWorker(SimpleWorker):  # type: ignore[misc]
    """Takes jobs from one queue and runs them in this process.

    functions: the jobs allowed, by the name under which they are queued.
    reconcile: called at each maintenance; sees to it that every edit that is due has a job.
    draining: set when the worker is told to stop, so that a running job can hand its edit back.
    stop_job: set by RQ's stop command.
    """

    death_penalty_class = NoDeathPenalty
    job_class = AllowedJob

    def __init__(
        self,
        queue: Queue,
        redis: Redis,
        name: str,
        functions: Mapping[str, Callable[..., Any]],
        reconcile: Callable[[], None],
        draining: threading.Event,
        stop_job: threading.Event,
    ) -> None:
        job_class = type("BoundJob", (AllowedJob,), {"functions": functions})
        super().__init__(
            [Queue(queue.name, connection=redis, serializer=JSONSerializer, job_class=job_class)],
            name=name,
            connection=redis,
            worker_ttl=WORKER_SECONDS,
            maintenance_interval=MAINTENANCE_SECONDS,
            serializer=JSONSerializer,
            job_class=job_class,
            log_job_description=False,
        )
        self.log_result_lifespan = False
        self._registered = threading.Event()
        self._reconcile = reconcile
        self._draining = draining
        self._stop_job = stop_job

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:  # noqa: ARG002 - the signature is RQ's
        """A job without a sign of life for so long is abandoned, however long it may run."""
        return WORKER_SECONDS

    def bootstrap(self, *arguments: Any, **options: Any) -> None:
        """Register with RQ, which refuses a name that has shown a sign of life before."""
        super().bootstrap(*arguments, **options)
        self._registered.set()

    def keep_alive(self) -> None:
        """Renew what expires; called from the heartbeat's thread, also while a job runs."""
        if not self._registered.is_set():
            return
        self.heartbeat(WORKER_SECONDS)
        for execution in list(self.executions.values()):
            job = execution.job
            self.maintain_heartbeats(job, execution)

    def kill_horse(self, sig: signal.Signals = signal.SIGTERM) -> None:  # noqa: ARG002 - the signature is RQ's
        """RQ's stop command: there is no child to kill; the running edit ends between two steps."""
        self._stop_job.set()

    def run_maintenance_tasks(self) -> None:
        """Let RQ clean its registries, then see that no edit is without a job."""
        super().run_maintenance_tasks()
        self._reconcile()

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """SIGTERM or SIGINT: the running step ends, the edit is handed back, the worker ends."""
        self._draining.set()
        super().request_stop(signum, frame)

    def request_force_stop(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature is RQ's
        """A second signal changes nothing: the first one is being obeyed."""
        self._draining.set()
