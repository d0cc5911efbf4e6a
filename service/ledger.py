"""The ledger: the append-only history of a model in Redis, from which every state follows."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from service.active import Lines
from service.contracts.access import Asker
from service.contracts.revisions import Entry, Revision, RevisionPage
from service.errors import ProblemError, not_found
from service.keys import Keys

SHOWN_ACTIVE = 20
"""Active edits that a page shows of each revision: the last of them."""

# KEYS: ledger, lease, edit, pending, channel; ARGV: expected head, entry, fencing token, edit id, then fields
_APPEND = """
if redis.call('GET', KEYS[2]) ~= ARGV[3] then return 'fenced' end
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local head = -1
if #last > 0 then head = tonumber(string.match(last[1][1], '^%d+')) end
if head ~= tonumber(ARGV[1]) then return 'moved' end
if ARGV[4] ~= '' then
  if redis.call('HGET', KEYS[3], 'status') ~= 'running' then return 'ended' end
  if redis.call('HGET', KEYS[3], 'cancel') == '1' then return 'cancelled' end
  redis.call('HSET', KEYS[3], unpack(ARGV, 5))
  redis.call('ZREM', KEYS[4], ARGV[4])
end
redis.call('XADD', KEYS[1], (head + 1) .. '-1', 'entry', ARGV[2])
if ARGV[4] ~= '' then redis.call('PUBLISH', KEYS[5], 'applied') end
return 'ok'
"""


class HeadMovedError(Exception):
    """The head is not the revision that the entry was made for; nothing was appended."""


class FencedError(Exception):
    """Another worker holds the lease; nothing was appended."""


class EditEndedError(Exception):
    """The edit was cancelled, or has ended otherwise; nothing was appended."""


class Ledger:
    """The history of one model. Entries are immutable and numbered without a gap, so those read once are kept."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis: Any = redis
        self._keys = keys
        self._append = redis.register_script(_APPEND)
        self._lines = Lines()

    def append(
        self, entry: Entry, *, token: str, edit_id: str = "", edit_fields: Mapping[str, str] | None = None
    ) -> None:
        """Append `entry` if its parent is the head and `token` holds the lease; with it, atomically, end its edit.

        Raises HeadMovedError, FencedError or EditEndedError, and then nothing has changed.
        """
        keys = self._keys
        flat = [part for pair in (edit_fields or {}).items() for part in pair]
        expected = -1 if entry.parent is None else entry.parent
        answer = self._append(
            keys=[keys.ledger, keys.lease, keys.edit(edit_id), keys.pending, keys.edit_channel(edit_id)],
            args=[expected, entry.model_dump_json(), token, edit_id, *flat],
        )
        match answer:
            case "ok":
                return
            case "moved":
                raise HeadMovedError
            case "fenced":
                raise FencedError
            case _:
                raise EditEndedError(answer)

    def asker(self, edit_id: str) -> Asker:
        """Who asked for an edit."""
        names = ("by", "request_id")
        return Asker(**dict(zip(names, self._redis.hmget(self._keys.edit(edit_id), names), strict=True)))

    def check_failed(self) -> None:
        """Count a blob or a revision that is not what an entry names: here, since the worker may end of it at once.

        A Redis that is away does not hide what was found.
        """
        with suppress(RedisError):
            self._redis.incr(self._keys.failed_checks)

    def failed_checks(self) -> int:
        """How many were counted, by all workers there have been."""
        return int(self._redis.get(self._keys.failed_checks) or 0)

    def head(self) -> int | None:
        """The newest revision; None while the ledger is empty."""
        last = self._redis.xrevrange(self._keys.ledger, count=1)
        return int(last[0][0].split("-")[0]) if last else None

    def entries(self) -> Sequence[Entry]:
        """All entries, r0 first."""
        return self.lines().entries

    def lines(self) -> Lines:
        """All entries, and what follows from them."""
        lines = self._lines
        known = lines.entries
        head = self.head()
        if head is None or head + 1 < len(known):
            known = ()
        if head is not None and head + 1 > len(known):
            new = self._redis.xrange(self._keys.ledger, min=f"{len(known)}-1")
            known += tuple(Entry.model_validate_json(fields["entry"]) for _, fields in new)
        if known is not lines.entries:
            # Assigned whole, and returned as it is here: the threads of the API share one ledger.
            self._lines = lines = Lines(known)
        return lines

    def active(self, revision: int) -> tuple[Entry, ...]:
        """The edit entries in force at `revision`, in the order in which they were committed."""
        return self.lines().active(revision)

    def active_edits(self) -> frozenset[str]:
        """The ids of the edits in force at the head."""
        return self.lines().head

    def revision(self, number: int) -> Revision:
        """One revision as the API shows it; 404 if there is none of that number."""
        lines = self.lines()
        if number >= len(lines.entries):
            raise not_found(f"revision r{number}", _which_exist(len(lines.entries) - 1))
        return _shown(lines, number)

    def resolve(self, name: str | int) -> int:
        """The number of `base`, `head` or a revision; 404 if it does not exist."""
        if name == "base":
            return 0
        head = self.head()
        if head is None:
            raise ProblemError(
                503, "no-worker", "No worker has started for this model yet, so there is no revision.", retry_after=5
            )
        number = head if name == "head" else int(name)
        if number > head:
            raise not_found(f"revision r{number}", _which_exist(head))
        return number

    def page(self, before: int | None, limit: int) -> RevisionPage:
        """Up to `limit` revisions below `before`, newest first."""
        lines = self.lines()
        entries = lines.entries
        upper = len(entries) if before is None else min(before, len(entries))
        lower = max(0, upper - limit)
        return RevisionPage(
            revisions=tuple(_shown(lines, number, SHOWN_ACTIVE) for number in range(upper - 1, lower - 1, -1)),
            next=lower if lower > 0 else None,
            revision=len(entries) - 1 if entries else None,
        )


def _shown(lines: Lines, number: int, most: int | None = None) -> Revision:
    active = tuple(entry.edit or "" for entry in lines.active(number, most))
    return Revision(**lines.entries[number].model_dump(), active=active, active_count=lines.counts[number])


def _which_exist(head: int) -> str:
    return "There are none yet." if head < 0 else f"Revisions r0 to r{head} exist; GET /revisions lists them."
