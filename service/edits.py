"""The edit documents in Redis: created by the API, moved on by the worker, never deleted."""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from redis import Redis

from service.contracts.edits import AnyEditRequest, Edit, EditStatus, Outcome, Progress
from service.contracts.problem import Problem
from service.documents import CHANGING, GLANCE, WHOLE, IsActive, assemble, outcome_fields, request_fields, stays
from service.errors import ProblemError, not_found
from service.keys import Keys

IDEMPOTENCY_SECONDS = 7 * 24 * 3600
"""How long an Idempotency-Key is remembered."""

# KEYS: edit, edits, pending, sequence, idempotency; ARGV: id, created_at, idempotency digest, its seconds,
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

# KEYS: edit, pending, channel; ARGV: id, allowed statuses (comma-separated), new status, then field, value, ...
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

# KEYS: edit, pending, channel; ARGV: id, now. A queued edit ends at once, a running one is asked to.
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
redis.call('PUBLISH', KEYS[3], 'cancel')
return 'ok'
"""


def utcnow() -> datetime:
    """Now, with its time zone."""
    return datetime.now(UTC)


class Edits:
    """The edit documents of one model. Every change is one atomic step in Redis and is announced on a channel."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis: Any = redis
        self._keys = keys
        self._create: Any = redis.register_script(_CREATE)
        self._move = redis.register_script(_MOVE)
        self._cancel = redis.register_script(_CANCEL)

    def create(self, request: AnyEditRequest, idempotency_key: str | None = None) -> tuple[str, bool]:
        """Store a queued edit; returns its id and whether it is new.

        The same `idempotency_key` gives the same edit again for the same body, and a 409 problem for another.
        """
        digest = _digest(request) if idempotency_key else ""
        edit_id = secrets.token_hex(8)
        keys = [
            self._keys.edit(edit_id),
            self._keys.edits,
            self._keys.pending,
            self._keys.sequence,
            self._keys.idempotency(idempotency_key or ""),
        ]
        fields = _flat(request_fields(request))
        args = [edit_id, utcnow().isoformat(), digest, IDEMPOTENCY_SECONDS, *fields]
        kind, value = self._create(keys=keys, args=args)
        if kind == "created":
            return edit_id, True
        if kind == "taken":
            return self.create(request, idempotency_key)
        return _same(value, digest), False

    def known(self, request: AnyEditRequest, idempotency_key: str) -> str | None:
        """The id of the edit that this key has made already; a 409 problem if the body was another."""
        value = self._redis.get(self._keys.idempotency(idempotency_key))
        return _same(value, _digest(request)) if value else None

    def get(self, edit_id: str, is_active: IsActive = lambda _: True) -> Edit:
        """One edit with all its facts; `is_active` says whether an applied edit is in force at the head."""
        return self._one(edit_id, WHOLE, is_active)

    def glance(self, edit_id: str, is_active: IsActive = lambda _: True) -> Edit:
        """One edit with the first SHOWN_FACTS facts, at a cost that does not grow with their number."""
        return self._one(edit_id, GLANCE, is_active)

    def glance_again(self, edit: Edit, is_active: IsActive = lambda _: True) -> Edit:
        """The same edit as it is now; what never changes of it is not read again."""
        fields, position = self._read_one(edit.id, CHANGING)
        known = {"request": edit.request, "fact_count": edit.fact_count, "created_at": edit.created_at}
        return assemble(edit.id, fields, known, position, is_active)

    def _one(self, edit_id: str, names: Sequence[str], is_active: IsActive) -> Edit:
        fields, position = self._read_one(edit_id, names)
        return assemble(edit_id, fields, stays(fields), position, is_active)

    def _read_one(self, edit_id: str, names: Sequence[str]) -> tuple[dict[str, str], int | None]:
        ((fields, position),) = self._read([edit_id], names)
        if not fields:
            raise not_found(f"edit {edit_id!r}", "GET /edits lists all edits.")
        return fields, position

    def page(
        self, before: int | None, limit: int, is_active: IsActive, status: EditStatus | None = None
    ) -> tuple[list[Edit], int | None]:
        """Up to `limit` edits at a glance, newest first, numbered below `before`; and the cursor that follows."""
        found: list[Edit] = []
        cursor: int | None = before
        while len(found) <= limit:
            upper = "+inf" if cursor is None else f"({cursor}"
            batch = self._redis.zrevrangebyscore(self._keys.edits, upper, "-inf", start=0, num=limit, withscores=True)
            read = self._read([edit_id for edit_id, _ in batch], GLANCE)
            for (edit_id, sequence), (fields, position) in zip(batch, read, strict=True):
                edit = assemble(edit_id, fields, stays(fields), position, is_active)
                cursor = int(sequence)
                if status is None or edit.status == status:
                    found.append(edit)
                    if len(found) == limit:
                        return found, (cursor if cursor > 1 else None)
            if len(batch) < limit:
                return found, None
        return found, cursor

    def _read(self, edit_ids: Sequence[str], names: Sequence[str]) -> list[tuple[dict[str, str], int | None]]:
        """Of each edit the fields that it has, and its position."""
        pipeline = self._redis.pipeline(transaction=True)
        for edit_id in edit_ids:
            pipeline.hmget(self._keys.edit(edit_id), names)
            pipeline.zrank(self._keys.pending, edit_id)
        answers = iter(pipeline.execute())
        return [
            ({name: value for name, value in zip(names, values, strict=True) if value}, position)
            for values, position in zip(answers, answers, strict=True)
        ]

    def pending(self) -> list[str]:
        """The ids of the edits that are queued or running, in the order in which they were accepted."""
        return list(self._redis.zrange(self._keys.pending, 0, -1))

    def cancel(self, edit_id: str) -> None:
        """End a queued edit now, or ask the worker to end a running one; 409 if it has ended."""
        keys = [self._keys.edit(edit_id), self._keys.pending, self._keys.edit_channel(edit_id)]
        answer = self._cancel(keys=keys, args=[edit_id, utcnow().isoformat()])
        if not answer:
            raise not_found(f"edit {edit_id!r}", "GET /edits lists all edits.")
        if answer != "ok":
            raise ProblemError(
                409, "edit-ended", f"Edit {edit_id} is {answer} and can no longer be cancelled. Roll back instead."
            )

    def cancel_requested(self, edit_id: str) -> bool:
        """Whether a client has asked to cancel the edit."""
        return bool(self._redis.hget(self._keys.edit(edit_id), "cancel") == "1")

    def take_up(self, edit_id: str) -> bool:
        """Move a pending edit to running, counting the attempt; False if it has ended or was never there."""
        allowed = (EditStatus.QUEUED, EditStatus.RUNNING)
        return self._moved(edit_id, allowed, EditStatus.RUNNING, {"started_at": utcnow().isoformat()})

    def hand_back(self, edit_id: str) -> bool:
        """Move a running edit back to queued: the worker stops and the next one takes it up."""
        return self._moved(edit_id, (EditStatus.RUNNING,), EditStatus.QUEUED, {"progress": ""})

    def report(self, edit_id: str, progress: Progress) -> None:
        """Note how far a running edit is."""
        self._moved_without_attempt(edit_id, {"progress": progress.model_dump_json(exclude_none=True)})

    def end(
        self, edit_id: str, status: EditStatus, problem: Problem | None = None, outcome: Outcome | None = None
    ) -> bool:
        """Move a pending edit to a state it stays in; False if it has ended already."""
        allowed = (EditStatus.QUEUED, EditStatus.RUNNING)
        fields = {"ended_at": utcnow().isoformat()}
        if problem is not None:
            fields["problem"] = problem.model_dump_json()
        if outcome is not None:
            fields |= {"progress": "", **outcome_fields(outcome)}
        return self._moved(edit_id, allowed, status, fields)

    def _moved(
        self, edit_id: str, allowed: tuple[EditStatus, ...], status: EditStatus, fields: Mapping[str, str]
    ) -> bool:
        keys = [self._keys.edit(edit_id), self._keys.pending, self._keys.edit_channel(edit_id)]
        args = [edit_id, ",".join(allowed), status.value, *_flat(fields)]
        return bool(self._move(keys=keys, args=args) == "ok")

    def _moved_without_attempt(self, edit_id: str, fields: Mapping[str, str]) -> None:
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hset(self._keys.edit(edit_id), mapping=dict(fields))
        pipeline.publish(self._keys.edit_channel(edit_id), "progress")
        pipeline.execute()


def applied_fields(revision: int, outcome: Outcome) -> dict[str, str]:
    """The fields that the ledger writes into an edit, in the same atomic step in which it appends the revision."""
    return {
        "status": EditStatus.APPLIED.value,
        "ended_at": utcnow().isoformat(),
        "revision": str(revision),
        "progress": "",
        **outcome_fields(outcome),
    }


def _digest(request: AnyEditRequest) -> str:
    return hashlib.sha256(request.model_dump_json(exclude_defaults=True).encode()).hexdigest()


def _same(value: str, digest: str) -> str:
    known_id, known_digest = value.split(":")
    if known_digest != digest:
        raise ProblemError(
            409,
            "idempotency-key-reused",
            f"This Idempotency-Key was used for edit {known_id} with another body. Use a new key for a new edit.",
        )
    return known_id


def _flat(fields: Mapping[str, str]) -> list[str]:
    return [part for pair in fields.items() for part in pair]
