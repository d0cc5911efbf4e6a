"""Put entries and their edits into a Redis that lacks them: all in one step, and nothing that is there is replaced."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import WatchError

from service.contracts.edits import EditStatus
from service.keys import Keys
from worker.engine.mirror import Line, ledger_head, lines, spans
from worker.errors import LedgerBehindError, WorkerError
from worker.tools.chain import sound_part
from worker.tools.site import Site

EDIT = "edit"
"""What the index of edits is called."""


def restore(site: Site) -> Sequence[int]:
    """Give Redis what the mirror has beyond it; returns those revisions. Raises WorkerError if the two differ."""
    known = site.mirror.revisions()
    head, last = site.head, max(known, default=-1)
    for line in lines(site.redis, site.keys, 0, head):
        if line.revision in known and site.mirror.read(line.revision).entry != line.entry:
            raise LedgerBehindError(
                f"Redis has another r{line.revision} than {site.mirror.folder.name}. Nothing was changed: "
                "of two histories neither can be put upon the other."
            )
    missing = [site.mirror.read(revision) for revision in range(head + 1, last + 1)]
    entries = [line.entry for line in (*lines(site.redis, site.keys, 0, head), *missing)]
    if (flaw := sound_part(entries)[1]) is not None:
        raise WorkerError(f"The ledger would not be sound, and nothing was changed. {flaw}")
    append_lines(site.redis, site.keys, missing)
    return [line.revision for line in missing]


def append_lines(redis: Any, keys: Keys, added: Sequence[Line]) -> None:
    """Append lines that follow the head, with their edits. Raises WorkerError, and then nothing has changed."""
    if not added:
        return
    edits = {str(line.entry["edit"]): line.edit for line in added if line.edit}
    with redis.pipeline(transaction=True) as pipeline:
        pipeline.watch(keys.ledger, keys.lease, keys.jobs(EDIT), keys.sequence, *map(keys.edit, edits))
        if pipeline.exists(keys.lease):
            raise WorkerError("A worker serves this model. Nothing was changed. Stop the workers first.")
        if ledger_head(pipeline, keys) != added[0].revision - 1:
            raise WorkerError(f"{spans(line.revision for line in added)} cannot follow the head of Redis.")
        numbers = _numbers(pipeline, keys, edits)
        pipeline.multi()
        for line in added:
            pipeline.xadd(keys.ledger, {"entry": json.dumps(line.entry)}, id=f"{line.revision}-1")
        for edit_id, fields in edits.items():
            pipeline.delete(keys.edit(edit_id))
            pipeline.hset(keys.edit(edit_id), mapping={**fields, "seq": str(numbers[edit_id])})
            pipeline.zadd(keys.jobs(EDIT), {edit_id: numbers[edit_id]})
            pipeline.zrem(keys.pending, edit_id)
        if numbers:
            highest = max(int(redis.get(keys.sequence) or 0), *numbers.values())
            pipeline.set(keys.sequence, highest)
        try:
            pipeline.execute()
        except WatchError as error:
            raise WorkerError("Redis was changed meanwhile, and not by this. Run it again.") from error


def _numbers(redis: Any, keys: Keys, edits: Mapping[str, Mapping[str, str]]) -> dict[str, int]:
    """The sequence number of each edit: its own, or a new one where another edit has that by now."""
    taken = {int(number): edit_id for edit_id, number in redis.zrange(keys.jobs(EDIT), 0, -1, withscores=True)}
    following = max([int(redis.get(keys.sequence) or 0), *(int(fields["seq"]) for fields in edits.values())]) + 1
    numbers: dict[str, int] = {}
    for edit_id, fields in edits.items():
        _refuse_another(edit_id, redis.hgetall(keys.edit(edit_id)), fields)
        number = int(fields["seq"])
        if taken.setdefault(number, edit_id) != edit_id:
            number, following = following, following + 1
        numbers[edit_id] = number
    return numbers


def _refuse_another(edit_id: str, there: Mapping[str, str], fields: Mapping[str, str]) -> None:
    """An edit that Redis knows may be the same one, not yet ended or ended so; anything else stays as it is."""
    unended = there.get("status") in (EditStatus.QUEUED, EditStatus.RUNNING)
    same = ("request", "created_at") if unended else ("request", "created_at", "status", "revision", "outcome")
    if there and any(there.get(name) != fields.get(name) for name in same):
        raise WorkerError(f"Redis has another edit {edit_id}, which is {there.get('status')}. Nothing was changed.")
