"""The documents of long jobs in Redis: created by the API, moved on by the worker, never deleted."""

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel
from redis import Redis

from service.contracts.jobs import JobStatus, Progress
from service.contracts.problem import Problem
from service.documents import Document, Shape, cut, request_fields
from service.errors import ProblemError
from service.keys import Keys
from service.listing import Listing
from service.origin import ORIGIN, Origin

IDEMPOTENCY_SECONDS = 7 * 24 * 3600
"""How long an Idempotency-Key is remembered."""

Request = TypeVar("Request", bound=BaseModel)

# KEYS: job, jobs of its kind, pending, sequence, idempotency; ARGV: id, created_at, idempotency digest, its seconds,
# then field, value, ...
_CREATE = """
if ARGV[3] ~= '' then
  local known = redis.call('GET', KEYS[5])
  if known then return {'known', known} end
end
if redis.call('EXISTS', KEYS[1]) == 1 then return {'taken', ''} end
local seq = redis.call('INCR', KEYS[4])
redis.call('HSET', KEYS[1], 'seq', seq, 'status', 'queued', 'created_at', ARGV[2], 'attempts', 0, unpack(ARGV, 5))
redis.call('ZADD', KEYS[2], seq, ARGV[1])
redis.call('ZADD', KEYS[3], seq, ARGV[1])
if ARGV[3] ~= '' then redis.call('SET', KEYS[5], ARGV[1] .. ':' .. ARGV[3], 'EX', ARGV[4]) end
return {'created', ARGV[1]}
"""

# KEYS: job, pending, channel; ARGV: id, allowed statuses (comma-separated), new status, then field, value, ...
_MOVE = """
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return '' end
if not string.find(',' .. ARGV[2] .. ',', ',' .. status .. ',', 1, true) then return status end
redis.call('HSET', KEYS[1], 'status', ARGV[3], unpack(ARGV, 4))
if ARGV[3] == 'running' then
  redis.call('HINCRBY', KEYS[1], 'attempts', 1)
elseif ARGV[3] == 'queued' then
  redis.call('HINCRBY', KEYS[1], 'attempts', -1)
else
  redis.call('ZREM', KEYS[2], ARGV[1])
end
redis.call('PUBLISH', KEYS[3], ARGV[3])
return 'ok'
"""

# KEYS: job, channel; ARGV: progress. Of a job that has ended, or waits again, nothing is to be reported any more.
_REPORT = """
if redis.call('HGET', KEYS[1], 'status') == 'running' then
  redis.call('HSET', KEYS[1], 'progress', ARGV[1])
  redis.call('PUBLISH', KEYS[2], 'progress')
end
"""

# KEYS: job, pending, channel; ARGV: id, now, who asks. A queued job ends at once, a running one is asked to.
_CANCEL = """
local status = redis.call('HGET', KEYS[1], 'status')
if status == 'queued' then
  redis.call('HSET', KEYS[1], 'status', 'cancelled', 'ended_at', ARGV[2])
  redis.call('ZREM', KEYS[2], ARGV[1])
elseif status == 'running' then
  redis.call('HSET', KEYS[1], 'cancel', '1')
else
  return status or ''
end
redis.call('HSETNX', KEYS[1], 'cancelled_by', ARGV[3])
redis.call('PUBLISH', KEYS[3], 'cancel')
return 'ok'
"""


def utcnow() -> datetime:
    """Now, with its time zone."""
    return datetime.now(UTC)


class Jobs(Listing[Document], Generic[Request, Document]):
    """The jobs of one kind and one model. Every change is one atomic step in Redis and is announced on a channel.

    All kinds wait in one line, in which the order of arrival is the order of the sequence numbers that they share.
    """

    instead = "There is nothing left to stop."
    """What to do where a job can no longer be cancelled."""

    def __init__(self, redis: Redis, keys: Keys, shape: Shape[Document]) -> None:
        super().__init__(redis, keys, shape)
        self._create: Any = redis.register_script(_CREATE)
        self._move = redis.register_script(_MOVE)
        self._report = redis.register_script(_REPORT)
        self._cancel = redis.register_script(_CANCEL)

    def asked(self, request: Request) -> dict[str, str]:
        """The fields with which a job begins."""
        return request_fields(request)

    def create(self, request: Request, idempotency_key: str | None = None) -> tuple[str, bool]:
        """Store a queued job; returns its id and whether it is new.

        The same `idempotency_key` gives the same job again for the same body, and a 409 problem for another. It is its
        caller's own: that of another API key is another.
        """
        digest = _digest(request) if idempotency_key else ""
        job_id = secrets.token_hex(8)
        keys = [
            self._keys.job(self.noun, job_id),
            self._keys.jobs(self.noun),
            self._keys.pending,
            self._keys.sequence,
            self._remembered(idempotency_key or ""),
        ]
        fields = {**ORIGIN.get().fields(), **self.asked(request)}
        args = [job_id, utcnow().isoformat(), digest, IDEMPOTENCY_SECONDS, *_flat(fields)]
        kind, value = self._create(keys=keys, args=args)
        if kind == "created":
            return job_id, True
        if kind == "taken":
            return self.create(request, idempotency_key)
        return self._same(value, digest), False

    def known(self, request: Request, idempotency_key: str) -> str | None:
        """The id of the job that this key has made already; a 409 problem if the body was another."""
        value = self._redis.get(self._remembered(idempotency_key))
        return self._same(value, _digest(request)) if value else None

    def origin(self, job_id: str) -> Origin:
        """Whose request has made the job."""
        names = tuple(Origin.__dataclass_fields__)
        values = self._redis.hmget(self._keys.job(self.noun, job_id), names)
        return Origin(**{name: value or "" for name, value in zip(names, values, strict=True)})

    def cancel(self, job_id: str) -> None:
        """End a queued job now, or ask the worker to end a running one; 409 if it has ended."""
        asker = ORIGIN.get().asker.model_dump_json()
        answer = self._cancel(keys=self._job_keys(job_id), args=[job_id, utcnow().isoformat(), asker])
        if not answer:
            raise self._not_found(job_id)
        if answer != "ok":
            raise ProblemError(
                409,
                f"{self.noun}-ended",
                f"{self.noun.capitalize()} {job_id} is {answer} and can no longer be cancelled. {self.instead}",
            )

    def cancel_requested(self, job_id: str) -> bool:
        """Whether a client has asked to cancel the job."""
        return bool(self._redis.hget(self._keys.job(self.noun, job_id), "cancel") == "1")

    def take_up(self, job_id: str) -> bool:
        """Move a pending job to running, counting the attempt; False if it has ended or was never there."""
        return self._moved(job_id, "queued,running", "running", {"started_at": utcnow().isoformat()})

    def hand_back(self, job_id: str) -> bool:
        """Move a running job back to queued: the worker stops and the next one takes it up."""
        return self._moved(job_id, "running", "queued", {"progress": ""})

    def report(self, job_id: str, progress: Progress) -> None:
        """Note how far a running job is; does nothing once it runs no longer."""
        keys = [self._keys.job(self.noun, job_id), self._keys.job_channel(self.noun, job_id)]
        self._report(keys=keys, args=[progress.model_dump_json(exclude_none=True)])

    def end_as(
        self, job_id: str, status: str, problem: Problem | None = None, found: Mapping[str, str] | None = None
    ) -> bool:
        """Move a pending job to a state it stays in, with what it found out; False if it has ended already."""
        fields = {"ended_at": utcnow().isoformat()}
        if problem is not None:
            fields["problem"] = problem.model_dump_json()
        if found is not None:
            fields |= {"progress": "", **found}
        return self._moved(job_id, "queued,running", status, fields)

    def _remembered(self, idempotency_key: str) -> str:
        return self._keys.idempotency(self.noun, idempotency_key, ORIGIN.get().by)

    def _same(self, value: str, digest: str) -> str:
        known_id, known_digest = value.split(":")
        if known_digest != digest:
            raise ProblemError(
                409,
                "idempotency-key-reused",
                f"This Idempotency-Key was used for {self.noun} {known_id} with another body. "
                f"Use a new key for a new {self.noun}.",
            )
        return known_id

    def _job_keys(self, job_id: str) -> list[str]:
        keys = self._keys
        return [keys.job(self.noun, job_id), keys.pending, keys.job_channel(self.noun, job_id)]

    def _moved(self, job_id: str, allowed: str, status: str, fields: Mapping[str, str]) -> bool:
        args = [job_id, allowed, status, *_flat(fields)]
        return bool(self._move(keys=self._job_keys(job_id), args=args) == "ok")

    def _note(self, job_id: str, news: str, fields: Mapping[str, str]) -> None:
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hset(self._keys.job(self.noun, job_id), mapping=dict(fields))
        pipeline.publish(self._keys.job_channel(self.noun, job_id), news)
        pipeline.execute()


class ReadingJobs(Jobs[Request, Document]):
    """Jobs that leave the model as it is, each at one revision."""

    def found(self, result: BaseModel) -> dict[str, str]:
        """The fields that a job has once it is completed."""
        return cut(self._shape.found, result)

    def settle(self, job_id: str, revision: int) -> None:
        """Note which revision is looked at, whatever becomes of the head meanwhile."""
        self._note(job_id, "revision", {"revision": str(revision)})

    def complete(self, job_id: str, result: BaseModel) -> bool:
        """End a running job with what it found; False if it has ended already."""
        return self.end_as(job_id, JobStatus.COMPLETED, found=self.found(result))


def in_line(kinds: Iterable[Jobs[Any, Any]]) -> list[tuple[str, str]]:
    """The jobs of these kinds that are queued or running, as noun and id, in the order in which they were accepted."""
    numbered = [(sequence, jobs.noun, job_id) for jobs in kinds for job_id, sequence in jobs.numbered()]
    return [(noun, job_id) for _, noun, job_id in sorted(numbered)]


def _digest(request: BaseModel) -> str:
    return hashlib.sha256(request.model_dump_json(exclude_defaults=True).encode()).hexdigest()


def _flat(fields: Mapping[str, str]) -> list[str]:
    return [part for pair in fields.items() for part in pair]
