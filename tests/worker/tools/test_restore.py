"""What fsck mends: a Redis that lacks revisions, and a head whose blob is lost for good."""

from pathlib import Path

import pytest
from redis import Redis

from service.contracts.edits import EditStatus
from service.keys import Keys
from tests.families import tiny_model
from tests.worker.engine.kit import Stand, live_checksum, random_delta
from tests.worker.tools.kit import DAMAGES, TinySite, flip, rewritten, stopped, varied
from worker.errors import CorruptStateError, LedgerBehindError, WorkerError
from worker.tools.fsck import Check
from worker.tools.give_up import roll_back
from worker.tools.report import Finding
from worker.tools.restore import restore


@pytest.mark.parametrize("lost", [1, 4, 9])
def test_what_redis_lacks_is_named_and_restored(stand: Stand, site: TinySite, tmp_path: Path, lost: int) -> None:
    """To the same checksums, the same documents and the same list of edits, whether Redis was emptied or is behind."""
    varied(stand)
    entries, edits = stand.ledger.entries(), stand.edits.page(None, 100, lambda _: True)
    before = live_checksum(stand.loaded)
    if lost == 9:
        stand.redis.flushall()
    rewritten(stand, entries[: 9 - lost])
    report = Check(site).run(fold=False)
    assert report.findings[0].kind == "behind"
    assert "palimpsest fsck --restore" in report.findings[0].what
    stopped(stand)
    assert restore(site) == list(range(9 - lost, 9))
    report = Check(site).run(fold=True)
    assert (report.sound, report.checksum) == (True, before), report.findings
    again = Stand(stand.redis, stand.keys, tiny_model("llama"), tmp_path)
    assert (again.ledger.entries(), live_checksum(again.loaded)) == (entries, before)
    assert again.edits.page(None, 100, lambda _: True) == edits
    assert restore(site) == []
    assert int(stand.redis.get(stand.keys.sequence)) == 4


def test_an_edit_that_was_running_when_redis_was_lost_is_restored_as_applied(stand: Stand, site: TinySite) -> None:
    edit = varied(stand)[3]
    rewritten(stand, stand.ledger.entries()[:5])
    stand.redis.hset(stand.keys.edit(edit), mapping={"status": "running", "cancel": "1"})
    stand.redis.zadd(stand.keys.pending, {edit: 4})
    stopped(stand)
    assert restore(site) == [5, 6, 7, 8]
    assert stand.edits.get(edit).status is EditStatus.APPLIED
    assert stand.edits.pending() == []
    assert not stand.edits.cancel_requested(edit)


def test_edits_that_came_meanwhile_keep_their_place(stand: Stand, site: TinySite) -> None:
    ids = varied(stand)
    stand.redis.flushall()
    new = [stand.running_edit() for _ in range(3)]
    stopped(stand)
    restore(site)
    listed = [edit.id for edit in stand.edits.page(None, 100, lambda _: True)[0]]
    assert sorted(listed) == sorted(ids + new)
    assert len(set(stand.redis.zrange(stand.keys.jobs("edit"), 0, -1, withscores=True))) == 7
    numbers = {number for _, number in stand.redis.zrange(stand.keys.jobs("edit"), 0, -1, withscores=True)}
    assert len(numbers) == 7
    assert stand.edits.pending() == new
    assert Check(site).run(fold=False).sound


@pytest.mark.parametrize("which", ["entry", "edit"])
def test_what_differs_is_never_overwritten(stand: Stand, site: TinySite, which: str) -> None:
    ids = varied(stand)
    entries = list(stand.ledger.entries())[:4]
    if which == "entry":
        entries[2] = entries[2].model_copy(update={"edit": "another"})
    rewritten(stand, entries)
    if which == "edit":
        stand.redis.hset(stand.keys.edit(ids[3]), mapping={"status": "failed"})
    stopped(stand)
    with pytest.raises(WorkerError, match=r"Redis has another (r2 than|edit)"):
        restore(site)
    assert stand.ledger.entries() == tuple(entries)


def test_nothing_is_restored_beside_a_worker_or_from_a_mirror_with_a_gap(stand: Stand, site: TinySite) -> None:
    varied(stand)
    rewritten(stand, entries := stand.ledger.entries()[:4])
    with pytest.raises(WorkerError, match="Stop the workers first"):
        restore(site)
    stopped(stand)
    (stand.blobs_folder / "ledger" / "00000006.json").unlink()
    with pytest.raises(WorkerError, match=r"00000006\.json is damaged: it is missing"):
        restore(site)
    assert stand.ledger.entries() == entries
    with pytest.raises(LedgerBehindError):
        site.require_ledger()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_head_that_is_lost_can_be_left(
    stand: Stand, site: TinySite, redis: Redis, keys: Keys, tmp_path: Path, damage: str
) -> None:
    """And everything sound is put back afterwards."""

    def boot() -> Stand:
        return Stand(redis, keys, tiny_model("llama"), tmp_path)

    made = [stand.commit(random_delta(stand.loaded, seed=seed)) for seed in range(3)]
    DAMAGES[damage][0](stand.blobs_folder / f"{made[1].blob}.safetensors")
    with pytest.raises(CorruptStateError):
        boot()
    stopped(stand)
    said = list(roll_back(site, Check(site).run(fold=False)))
    assert said == [
        "r4 is a rollback to r1, the newest revision that needs nothing damaged.",
        f"Sound, and no longer in force; palimpsest reapply puts each back: {made[2].edit}",
    ]
    again = boot()
    assert live_checksum(again.loaded) == made[0].checksum
    assert again.history.reapply(str(made[2].edit)).active == (made[0].edit, made[2].edit)
    assert list(roll_back(site, Check(site).run(fold=False))) == [
        "The head needs nothing that is damaged, so nothing was rolled back."
    ]


def test_nothing_is_rolled_back_beside_a_worker_or_over_other_damage(stand: Stand, site: TinySite) -> None:
    blob = stand.commit(random_delta(stand.loaded)).blob
    flip(stand.blobs_folder / f"{blob}.safetensors")
    report = Check(site).run(fold=False)
    with pytest.raises(WorkerError, match="Stop the workers first"):
        list(roll_back(site, report))
    stopped(stand)
    worse = report.model_copy(update={"findings": (*report.findings, Finding(kind="behind", what="w"))})
    with pytest.raises(WorkerError, match=r"More than blobs is damaged \(behind\)"):
        list(roll_back(site, worse))
    assert stand.ledger.head() == 1
