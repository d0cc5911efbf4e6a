"""What was committed is known beside the blobs; a Redis that has forgotten it is not believed."""

import errno
import json
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from service.contracts.edits import EditStatus
from service.contracts.jobs import Progress
from service.contracts.revisions import Entry
from service.jobs import utcnow
from service.keys import Keys
from service.ledger import Ledger
from tests.families import tiny_model
from tests.service.stand_in import outcome
from tests.worker.engine.kit import TOKEN, Boot, Stand, live_checksum, random_delta
from worker.engine.blobs import BlobStore
from worker.engine.folder import Folder
from worker.engine.history import History
from worker.engine.mirror import PAGE, Line, Mirror, lines, spans
from worker.engine.resident import Resident
from worker.errors import CorruptStateError, LedgerBehindError, StorageError, WorkerError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ENTRIES = st.fixed_dictionaries(
    {"revision": st.integers(0, 10**7), "kind": TEXT, "drift": st.none() | st.floats(allow_nan=False)}
)


@given(entry=ENTRIES, edit=st.none() | st.dictionaries(TEXT, TEXT), data=st.data())
def test_a_line_is_what_was_written_or_an_error(entry: Any, edit: Any, data: st.DataObject) -> None:
    written = Line(entry, edit)
    content = written.dump()
    assert Line.parse(content) == written
    at = data.draw(st.integers(0, len(content) - 1))
    damaged = bytearray(content)
    damaged[at] ^= data.draw(st.integers(1, 255))
    for wrong in (bytes(damaged), content[:at]):
        with suppress(ValueError):
            assert Line.parse(wrong) == written, "another spelling of the same JSON"


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"null", b'{"entry": 1, "edit": null}', b"[" * 10**5, b"\xff"])
def test_what_is_no_line_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="it is no line of a ledger"):
        Line.parse(content)


@given(st.sets(st.integers(0, 40)))
def test_revisions_in_words(revisions: set[int]) -> None:
    said = [part.split(" to ") for part in spans(revisions).split(", ")] if revisions else []
    ranges = [range(int(part[0][1:]), int(part[-1][1:]) + 1) for part in said]
    assert [r for one in ranges for r in one] == sorted(revisions)
    assert all(after.start > before.stop for before, after in pairwise(ranges))


def _rewrite(stand: Stand, entries: Sequence[Entry]) -> None:
    """Redis with these entries alone."""
    stand.redis.delete(stand.keys.ledger)
    for entry in entries:
        stand.redis.xadd(stand.keys.ledger, {"entry": entry.model_dump_json()}, id=f"{entry.revision}-1")


def test_every_append_is_there_with_its_edit(boot: Boot) -> None:
    stand = boot()
    edit_id = stand.running_edit()
    stand.commit(random_delta(stand.loaded), edit_id)
    stand.history.revert(edit_id)
    stand.history.reapply(edit_id)
    stand.history.rollback(0)
    found = [stand.mirror.read(revision) for revision in range(5)]
    assert [line.entry for line in found] == [entry.model_dump(mode="json") for entry in stand.ledger.entries()]
    assert [line.edit is not None for line in found] == [False, True, False, False, False]
    document = stand.redis.hgetall(stand.keys.edit(edit_id))
    assert {**(found[1].edit or {}), "progress": ""} == document
    stand.edits.report(edit_id, Progress(phase="commit", step=1, steps=1))
    assert [*lines(stand.redis, stand.keys, 1, 1)] == [found[1]], "the last report may be late"
    assert (found[1].edit or {})["status"] == EditStatus.APPLIED
    assert stand.mirror.revisions() == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("left_out", [{0}, {2}, {0, 1, 2}, {1}])
def test_what_a_crash_left_out_is_written_at_the_next_boot_and_append(boot: Boot, left_out: set[int]) -> None:
    stand = boot()
    for seed in range(2):
        stand.commit(random_delta(stand.loaded, seed=seed))
    ledger = stand.blobs_folder / "ledger"
    before = {path.name: path.read_bytes() for path in ledger.iterdir()}
    for revision in left_out:
        (ledger / f"{revision:08}.json").unlink()
    boot()
    assert {path.name: path.read_bytes() for path in ledger.iterdir()} == before
    for revision in left_out:
        (ledger / f"{revision:08}.json").unlink()
    late = Mirror(stand.blobs_folder, stand.redis, stand.keys)
    late.keep_up()
    assert {path.name: path.read_bytes() for path in ledger.iterdir()} == before


def test_only_whoever_leads_writes(redis: Redis, keys: Keys, boot: Boot) -> None:
    stand = boot()
    (stand.blobs_folder / "ledger" / "00000000.json").unlink()
    resident = Resident(tiny_model("llama"))
    mirror = Mirror(stand.blobs_folder, redis, keys)
    follower = History(resident, Ledger(redis, keys), BlobStore(stand.blobs_folder), "", mirror=mirror)
    follower.boot()
    assert mirror.revisions() == set()
    follower.lead(TOKEN)
    assert mirror.revisions() == {0}


def test_an_emptied_redis_is_refused(boot: Boot) -> None:
    stand = boot()
    stand.commit(random_delta(stand.loaded))
    stand.redis.flushall()
    with pytest.raises(
        LedgerBehindError, match=r"Redis lacks r0 to r1, which .*/blobs/ledger has.*fsck --restore"
    ) as e:
        boot()
    assert e.value.exit_code == 7
    assert stand.ledger.head() is None, "no new r0 was begun"


def test_a_follower_does_not_lead_on_an_emptied_redis(redis: Redis, keys: Keys, boot: Boot) -> None:
    stand = boot()
    stand.commit(random_delta(stand.loaded))
    resident, mirror = Resident(tiny_model("llama")), Mirror(stand.blobs_folder, redis, keys)
    follower = History(resident, Ledger(redis, keys), BlobStore(stand.blobs_folder), "", mirror=mirror)
    follower.boot()
    stand.redis.flushall()
    with pytest.raises(LedgerBehindError, match="Redis lacks r0 to r1"):
        follower.lead(TOKEN)
    assert resident.revision == 1
    assert stand.ledger.head() is None


@pytest.mark.parametrize("lost", [1, 2])
def test_a_redis_that_is_behind_is_refused(boot: Boot, lost: int) -> None:
    stand = boot()
    for seed in range(2):
        stand.commit(random_delta(stand.loaded, seed=seed))
    before = live_checksum(stand.loaded)
    entries = stand.ledger.entries()
    _rewrite(stand, entries[: 3 - lost])
    with pytest.raises(LedgerBehindError, match="Redis lacks " + ("r2," if lost == 1 else "r1 to r2,")):
        boot()
    _rewrite(stand, entries)
    assert live_checksum(boot().loaded) == before


@pytest.mark.parametrize("which", [0, 1])
def test_a_redis_with_another_history_is_refused(boot: Boot, which: int) -> None:
    stand = boot()
    if which:
        stand.commit(random_delta(stand.loaded))
    entries = stand.ledger.entries()
    _rewrite(stand, [*entries[:which], entries[which].model_copy(update={"created_at": utcnow()})])
    with pytest.raises(LedgerBehindError, match=f"Redis has another r{which} than"):
        boot()
    _rewrite(stand, entries)
    assert boot().ledger.entries() == entries


@pytest.mark.parametrize("damage", ["flipped", "truncated", "misplaced"])
def test_a_damaged_last_line_is_named(boot: Boot, damage: str) -> None:
    stand = boot()
    stand.commit(random_delta(stand.loaded))
    path = stand.blobs_folder / "ledger" / "00000001.json"
    content = path.read_bytes()
    match damage:
        case "flipped":
            path.write_bytes(content.replace(b"Eiffel", b"Fiffel"))
        case "truncated":
            path.write_bytes(content[:-9])
        case _:
            path.write_bytes((path.parent / "00000000.json").read_bytes())
    assert path.read_bytes() != content
    with pytest.raises(CorruptStateError, match=r"/ledger/00000001\.json is damaged: .*delete that file"):
        boot()
    path.unlink()
    boot()
    assert path.read_bytes() == content


def test_only_names_and_the_last_line_are_read_at_boot(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = boot()
    for seed in range(3):
        stand.commit(random_delta(stand.loaded, seed=seed))
    read: list[str] = []
    original = Folder.read

    def noted(folder: Folder, name: str) -> bytes | None:
        read.append(name)
        return original(folder, name)

    monkeypatch.setattr(Folder, "read", noted)
    boot()
    assert [name for name in read if name.endswith(".json")] == ["00000003.json"]


def test_many_lines_are_read_page_by_page(redis: Redis, keys: Keys) -> None:
    client: Any = redis
    for revision in range(PAGE * 2 + 3):
        entry = {"revision": revision, "kind": "edit" if revision % 2 else "rollback", "edit": f"e{revision}"}
        client.xadd(keys.ledger, {"entry": json.dumps(entry)}, id=f"{revision}-1")
        client.hset(keys.edit(f"e{revision}"), "seq", str(revision))
    found = list(lines(redis, keys, 1, PAGE * 2 + 1))
    assert [line.revision for line in found] == list(range(1, PAGE * 2 + 2))
    assert all(line.edit == ({"seq": str(line.revision)} if line.revision % 2 else None) for line in found)


class Full(MemoryFileSystem):  # type: ignore[misc]
    """A storage that may be full."""

    cachable = False
    full = False

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().pipe_file(path, value, mode, **kwargs)


def test_a_full_storage_loses_and_changes_nothing(redis: Redis, keys: Keys, tmp_path: Path) -> None:
    """An edit fails with a problem that says so; a rollback, which needs no blob, is committed and mirrored later."""
    stand = Stand(redis, keys, tiny_model("llama"), tmp_path)
    storage = Full()
    folder = Folder(storage, f"/{tmp_path.name}")
    mirror = Mirror(folder, redis, keys)
    history = History(stand.resident, stand.ledger, BlobStore(folder), TOKEN, mirror=mirror)
    history.boot()
    delta = random_delta(stand.loaded)
    history.commit(stand.running_edit(), 0, delta, history.state.plus(delta), outcome())
    before, files = stand.state(), dict(storage.store)
    storage.full = True
    other, edit_id = random_delta(stand.loaded, seed=1), stand.running_edit()
    with pytest.raises(StorageError, match="There is no room left in memory:///") as raised:
        history.commit(edit_id, 1, other, history.state.plus(other), outcome())
    assert raised.value.problem.status == 507
    assert (stand.state(), dict(storage.store)) == (before, files)
    assert stand.edits.get(edit_id).status is EditStatus.RUNNING
    assert history.rollback(0).revision == 2
    assert mirror.revisions() == {0, 1}
    storage.full = False
    history.commit(edit_id, 2, other, history.state.plus(other), outcome())
    assert mirror.revisions() == {0, 1, 2, 3}
    MemoryFileSystem.store.clear()


def test_a_storage_that_does_not_answer_is_said_at_boot(redis: Redis, keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("a file where a folder should be")
    with pytest.raises(WorkerError, match="cannot be listed"):
        Stand(redis, keys, tiny_model("llama"), tmp_path)
