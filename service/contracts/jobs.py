"""A long job: what everything that waits in the worker's queue has in common, be it an edit or an evaluation."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Generic, TypeVar

from pydantic import Field

from service.contracts.access import Asker
from service.contracts.base import Contract, RevisionName, Sent
from service.contracts.problem import Problem

Status = TypeVar("Status", bound=StrEnum)


def has_ended(status: str) -> bool:
    """Whether nothing more will happen by itself to a job of this status, whatever its kind."""
    return status not in ("queued", "running")


class JobStatus(StrEnum):
    """Where a job stands that leaves the model as it is."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the job by itself."""
        return has_ended(self)


class Progress(Contract):
    """How far a running job is: a phase, a step of steps, and what an optimiser sees."""

    phase: str
    step: int = 0
    steps: int = 0
    loss: float | None = None
    target_probability: float | None = None
    seconds_left: Annotated[float | None, Field(description="until the job ends, as far as can be told")] = None


class Job(Contract, Generic[Status]):
    """What the API shows of a job of any kind; `noun` is what it is called."""

    noun: ClassVar[str]

    id: str
    status: Status
    created_at: datetime
    request_id: Annotated[str | None, Field(description="X-Request-Id of the request that asked for it")] = None
    by: Annotated[str | None, Field(description="name of the API key that asked for it; null without keys")] = None
    cancelled_by: Annotated[
        Asker | None, Field(description="who asked to cancel it, first and in time; null if nobody did")
    ] = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    attempts: Annotated[int, Field(description="how often a worker has taken it up without handing it back")] = 0
    position: Annotated[int | None, Field(description="place in the queue, 0 is next or running")] = None
    progress: Progress | None = None
    problem: Problem | None = None
    notice: Annotated[str | None, Field(description="something to know, such as that no worker is there")] = None


class ReadingRequest(Sent):
    """What asks for a job that leaves the model as it is."""

    revision: RevisionName = "head"


Asked = TypeVar("Asked", bound=ReadingRequest)


class ReadingJob(Job[JobStatus], Generic[Asked]):
    """A job that leaves the model as it is: it looks at one revision, whatever becomes of the head meanwhile."""

    request: Asked
    revision: Annotated[int | None, Field(description="the revision that is looked at, once it has started")] = None
