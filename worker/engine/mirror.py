"""A second copy of the ledger, beside the blobs: what was committed is known there even if Redis has lost it."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from service.contracts.revisions import RevisionKind
from service.keys import Keys
from worker.engine.folder import Folder
from worker.errors import CorruptStateError, LedgerBehindError

DIRECTORY = "ledger"
NAME = re.compile(r"([0-9]{8})\.json")
PAGE = 256
"""Entries that are read from Redis at once."""


@dataclass(frozen=True)
class Line:
    """One entry, and the edit that was committed with it: what stays of its document; None for any other kind."""

    entry: Mapping[str, Any]
    edit: Mapping[str, str] | None = None

    @property
    def revision(self) -> int:
        """Its place in the ledger."""
        return int(self.entry["revision"])

    def dump(self) -> bytes:
        """As it lies in a file: JSON with a checksum of its own."""
        return _canonical({**self._content(), "sha256": self._checksum()})

    @classmethod
    def parse(cls, content: bytes) -> "Line":
        """The line in a file; raises ValueError if it is not what was written."""
        try:
            found = json.loads(content)
            line = cls(dict(found["entry"]), None if found["edit"] is None else dict(found["edit"]))
            number, checksum = line.revision, found["sha256"]
        except (LookupError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"it is no line of a ledger: {error!r}") from error
        if checksum != line._checksum():
            raise ValueError(f"the checksum of r{number} differs")
        return line

    def _content(self) -> dict[str, Any]:
        return {"entry": dict(self.entry), "edit": None if self.edit is None else dict(self.edit)}

    def _checksum(self) -> str:
        return hashlib.sha256(_canonical(self._content())).hexdigest()


class Mirror:
    """The lines of one model's ledger as files. Only whoever holds the lease writes here; everybody may check.

    place: the folder of the model's blobs.
    """

    def __init__(self, place: str | Path | Folder, redis: Redis, keys: Keys) -> None:
        self.folder = (place if isinstance(place, Folder) else Folder.at(place)).under(DIRECTORY)
        self._redis: Any = redis
        self._keys = keys
        self._known: set[int] | None = None
        self._whole = 0

    def check(self) -> None:
        """Raise LedgerBehindError unless Redis has all that is here; reads the names and the last line."""
        known = self.revisions()
        if not known:
            return
        head = ledger_head(self._redis, self._keys)
        last = max(known)
        if last > head:
            raise LedgerBehindError(
                f"Redis lacks {spans(range(head + 1, last + 1))}, which {self.folder.name} has: it was emptied, or "
                "restored from an old copy. Nothing was changed. Restore its append-only file, or run "
                "`palimpsest fsck --restore`, which takes the revisions from there."
            )
        (found,) = lines(self._redis, self._keys, last, last)
        if found.entry != self.read(last).entry:
            raise LedgerBehindError(
                f"Redis has another r{last} than {self.folder.name}: they are of two histories. Nothing was changed. "
                "Connect the Redis that these blobs belong to, or name other blobs with PALIMPSEST_BLOBS."
            )

    def keep_up(self) -> None:
        """Write what Redis has and this has not. Raises StorageError and RedisError, and goes on the next time."""
        known = self.revisions() if self._known is None else self._known
        self._known = known
        while self._whole in known:
            self._whole += 1
        head = ledger_head(self._redis, self._keys)
        for first in range(self._whole, head + 1, PAGE):
            missing = [r for r in range(first, min(first + PAGE, head + 1)) if r not in known]
            for line in lines(self._redis, self._keys, missing[0], missing[-1]) if missing else ():
                if line.revision not in known:
                    self.folder.write(_name(line.revision), line.dump())
                    known.add(line.revision)

    def revisions(self) -> set[int]:
        """The revisions whose lines are here."""
        found = (NAME.fullmatch(name) for name in self.folder.names())
        return {int(match[1]) for match in found if match}

    def read(self, revision: int) -> Line:
        """A line; raises CorruptStateError naming its file if it is missing or not what was written."""
        content = self.folder.read(_name(revision))
        try:
            line = Line.parse(content or b"")
        except ValueError as error:
            raise self._damaged(revision, str(error) if content is not None else "it is missing") from error
        if line.revision != revision:
            raise self._damaged(revision, f"it is r{line.revision}")
        return line

    def _damaged(self, revision: int, why: str) -> CorruptStateError:
        return CorruptStateError(
            f"{self.folder.name}/{_name(revision)} is damaged: {why}. "
            "If Redis has all its revisions, delete that file: it is written anew."
        )


def lines(redis: Any, keys: Keys, first: int, last: int) -> Iterator[Line]:
    """The lines of Redis from one revision to another, both included, each with its edit; or CorruptStateError."""
    for begin in range(first, last + 1, PAGE):
        end = min(begin + PAGE - 1, last)
        entries = [_entry(*line) for line in redis.xrange(keys.ledger, min=f"{begin}-1", max=f"{end}-1")]
        pipeline = redis.pipeline(transaction=False)
        committed = [entry["edit"] for entry in entries if entry["kind"] == RevisionKind.EDIT]
        for edit_id in committed:
            pipeline.hgetall(keys.edit(edit_id))
        documents = iter(pipeline.execute() if committed else ())
        for entry in entries:
            yield Line(entry, _lasting(next(documents)) if entry["kind"] == RevisionKind.EDIT else None)


def _lasting(document: Mapping[str, str]) -> dict[str, str]:
    """Without the progress, whose last report may come after the edit has ended."""
    return {name: value for name, value in document.items() if name != "progress"}


def _entry(number: str, fields: Mapping[str, str]) -> dict[str, Any]:
    """An entry of the stream; only what every line needs is looked at."""
    try:
        entry = dict(json.loads(fields["entry"]))
        if int(entry["revision"]) >= 0 and {"kind", "edit"} <= entry.keys():
            return entry
    except (LookupError, TypeError, ValueError, RecursionError):
        pass  # then it is told below
    raise CorruptStateError(f"What the ledger's stream has as {number} is no entry. Restore Redis from a backup.")


def ledger_head(redis: Any, keys: Keys) -> int:
    """The newest revision in Redis; -1 while there is none."""
    last = redis.xrevrange(keys.ledger, count=1)
    return int(last[0][0].split("-")[0]) if last else -1


def spans(revisions: Any) -> str:
    """Revisions in words: r1, r3 to r5."""
    parts: list[list[int]] = []
    for revision in sorted(revisions):
        if parts and parts[-1][-1] == revision - 1:
            parts[-1][1:] = [revision]
        else:
            parts.append([revision])
    return ", ".join(" to ".join(f"r{revision}" for revision in part) for part in parts)


def _name(revision: int) -> str:
    return f"{revision:08}.json"


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
