"""Reads the documents of long jobs: one of them whole or at a glance, and all of a kind, page by page."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic

from redis import Redis

from service.documents import Document, Shape
from service.errors import ProblemError, not_found
from service.keys import Keys


def as_it_is(job: Document) -> Document:
    """Shows a job as its document has it."""
    return job


class Listing(Generic[Document]):
    """The jobs of one kind and one model; `noun` is what one of them is called."""

    def __init__(self, redis: Redis, keys: Keys, shape: Shape[Document]) -> None:
        self._redis: Any = redis
        self._keys = keys
        self._shape = shape
        self.noun = shape.document.noun

    def get(self, job_id: str) -> Document:
        """One job with all its facts."""
        return self._one(job_id, self._shape.whole)

    def glance(self, job_id: str) -> Document:
        """One job with the first SHOWN_FACTS facts, at a cost that does not grow with their number."""
        return self._one(job_id, self._shape.glance)

    def glance_again(self, job: Document) -> Document:
        """The same job as it is now; what never changes of it is not read again."""
        fields, position = self._read_one(job.id, self._shape.changing)
        known = {name: getattr(job, name) for name in ("request", "created_at", "request_id", "by")}
        return self._shape.assemble(job.id, fields, known, position)

    def newest(
        self,
        before: int | None,
        limit: int,
        status: str | None = None,
        seen: Callable[[Document], Document] = as_it_is,
    ) -> tuple[list[Document], int | None]:
        """Up to `limit` jobs at a glance, newest first, numbered below `before`; and the cursor that follows.

        seen: makes of a document what it alone does not tell; `status` is the one that is seen.
        """
        found: list[Document] = []
        cursor: int | None = before
        while len(found) <= limit:
            batch = self._numbered_below(cursor, limit)
            read = self._read([job_id for job_id, _ in batch], self._shape.glance)
            for (job_id, sequence), (fields, position) in zip(batch, read, strict=True):
                job = seen(self._shape.assemble(job_id, fields, self._shape.stays(fields), position))
                cursor = int(sequence)
                if status is None or job.status == status:
                    found.append(job)
                    if len(found) == limit:
                        return found, (cursor if self._numbered_below(cursor, 1) else None)
            if len(batch) < limit:
                return found, None
        return found, cursor

    def pending(self) -> list[str]:
        """The ids of the jobs of this kind that are queued or running, in the order in which they were accepted."""
        return [job_id for job_id, _ in self.numbered()]

    def numbered(self) -> list[tuple[str, float]]:
        """The same, each with its sequence number."""
        both = (self._keys.pending, self._keys.jobs(self.noun))
        return list(self._redis.zinter(both, aggregate="MIN", withscores=True))

    def _numbered_below(self, before: int | None, limit: int) -> Sequence[tuple[str, float]]:
        upper = "+inf" if before is None else f"({before}"
        index = self._keys.jobs(self.noun)
        found: Sequence[tuple[str, float]] = self._redis.zrevrangebyscore(
            index, upper, "-inf", start=0, num=limit, withscores=True
        )
        return found

    def _one(self, job_id: str, names: Sequence[str]) -> Document:
        fields, position = self._read_one(job_id, names)
        return self._shape.assemble(job_id, fields, self._shape.stays(fields), position)

    def _read_one(self, job_id: str, names: Sequence[str]) -> tuple[dict[str, str], int | None]:
        ((fields, position),) = self._read([job_id], names)
        if not fields:
            raise self._not_found(job_id)
        return fields, position

    def _read(self, job_ids: Iterable[str], names: Sequence[str]) -> list[tuple[dict[str, str], int | None]]:
        """Of each job the fields that it has, and its place in the line of all jobs."""
        pipeline = self._redis.pipeline(transaction=True)
        for job_id in job_ids:
            pipeline.hmget(self._keys.job(self.noun, job_id), names)
            pipeline.zrank(self._keys.pending, job_id)
        answers = iter(pipeline.execute())
        return [
            ({name: value for name, value in zip(names, values, strict=True) if value}, position)
            for values, position in zip(answers, answers, strict=True)
        ]

    def _not_found(self, job_id: str) -> ProblemError:
        return not_found(f"{self.noun} {job_id!r}", f"GET /{self.noun}s lists all {self.noun}s.")
