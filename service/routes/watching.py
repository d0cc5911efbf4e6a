"""What the routes of all kinds of jobs share: how a job is shown, and how it is watched until it ends."""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

from fastapi import Response
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import ServerSentEvent
from pydantic import Field
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from service.contracts.base import Contract
from service.contracts.jobs import ReadingJob, has_ended
from service.dependencies import Services
from service.documents import Document
from service.middleware import REVISION

Read = TypeVar("Read", bound=ReadingJob[Any])

LOOK_SECONDS = 1.0
"""How often a watched job is read again, even if no change was announced."""

_log = logging.getLogger(__name__)


class PageQuery(Contract):
    """Which part of a list to show."""

    before: Annotated[int | None, Field(ge=1, le=2**53, description="`next` of the page before")] = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20


def annotated(job: Document, services: Services) -> Document:
    """The job, with a notice if it waits for a worker that is not ready."""
    return job if has_ended(job.status) else services.board.look().annotate(job)


def of_revision(job: Read, response: Response) -> Read:
    """The job; the header names the revision that it looks at, once that is known."""
    if job.revision is not None:
        response.headers[REVISION] = str(job.revision)
    return job


@asynccontextmanager
async def announced(noun: str, job_id: str, services: Services) -> AsyncIterator[PubSub]:
    """The channel on which every change of a job is heard from now on."""
    async with services.async_redis.pubsub() as channel:
        await channel.subscribe(services.keys.job_channel(noun, job_id))
        # What changes before Redis has confirmed this is not announced here, so the job is read only after it.
        while await channel.get_message(timeout=LOOK_SECONDS) is None and not services.stopping.is_set():
            pass
        yield channel


async def watch(
    job: Document, again: Callable[[Document], Document], changes: Any, services: Services
) -> AsyncIterator[ServerSentEvent]:
    """The job as it is, then again whenever it changed, until it has ended.

    again: the same job as it is now. The event's name is the job's status, its data is the job.
    """
    shown: Document | None = None
    with contextlib.suppress(RedisError):
        while not services.stopping.is_set() and (shown is None or not has_ended(shown.status)):
            job = await run_in_threadpool(lambda known: annotated(again(known), services), job)
            if job != shown:
                yield ServerSentEvent(data=job, event=job.status)
                shown = job
            else:
                await changes.get_message(ignore_subscribe_messages=True, timeout=LOOK_SECONDS)
        return
    _log.warning("Redis failed while %s %s was watched; the client will connect again", job.noun, job.id)
