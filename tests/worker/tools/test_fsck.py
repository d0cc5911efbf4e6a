"""fsck names what is damaged and what is lost with it; what it restores has the same checksums as before."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from service.contracts.edits import EditStatus
from service.keys import Keys
from tests.families import tiny_model
from tests.worker.engine.kit import Stand, live_checksum, random_delta
from tests.worker.tools.kit import TinySite, rewritten, site_of, stopped, varied
from worker.errors import CorruptStateError, LedgerBehindError, WorkerError, WrongBaseError
from worker.tools.fsck import Check
from worker.tools.give_up import roll_back
from worker.tools.report import Finding, Report
from worker.tools.restore import restore

Damage = Callable[[Path], None]


def flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


DAMAGES: dict[str, tuple[Damage, str]] = {
    "flipped": (flip, "is damaged: its checksum differs"),
    "truncated": (truncate, "is damaged: its checksum differs"),
    "missing": (Path.unlink, "is missing from"),
}


def _kinds(report: Report) -> list[str]:
    return [finding.kind for finding in report.findings]


def _one(report: Report) -> Finding:
    (finding,) = report.findings
    return finding


def test_a_sound_ledger(stand: Stand, site: TinySite) -> None:
    varied(stand)
    report = Check(site).run(fold=True)
    assert report.sound, report.findings
    assert (report.head, report.checksum) == (8, live_checksum(stand.loaded))
    assert (report.edits, report.blobs, report.states) == (4, 4, 6)
    assert report.reachable == tuple(range(9))
    assert (report.unmirrored, report.unnamed, report.unnamed_bytes) == ((), 0, 0)
    assert list(report.in_words())[-1] == "Sound."


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_blob_is_named_with_all_that_is_lost(stand: Stand, site: TinySite, damage: str) -> None:
    ids = varied(stand)
    blob = str(stand.ledger.entries()[2].blob)
    do, said = DAMAGES[damage]
    do(stand.blobs_folder / f"{blob}.safetensors")
    for fold in (False, True):
        report = Check(site).run(fold=fold)
        finding = _one(report)
        assert finding.kind == "blob"
        assert blob in finding.what
        assert said in finding.what
        assert (finding.edits, finding.revisions) == ((ids[1],), (2, 3, 8))
        assert report.reachable == (0, 1, 4, 5, 6, 7)
        assert report.states == (4 if fold else None)
    words = "\n".join(report.in_words())
    assert f"lost with it: r2 to r3, r8; edits {ids[1]}" in words
    assert "Still reachable: r0 to r1, r4 to r7." in words
    assert words.endswith("1 findings.")


def test_blobs_that_nothing_names_are_counted(stand: Stand, site: TinySite) -> None:
    varied(stand)
    (stand.blobs_folder / f"{'0' * 64}.safetensors").write_bytes(b"12345")
    report = Check(site).run(fold=False)
    assert (report.sound, report.unnamed, report.unnamed_bytes) == (True, 1, 5)
    assert "1 blobs (5 bytes) that nothing names" in "\n".join(report.in_words())


@pytest.mark.parametrize("wrong", ["checksum", "tensors"])
def test_a_state_that_the_blobs_do_not_give_is_named(stand: Stand, site: TinySite, wrong: str) -> None:
    varied(stand)
    entries = list(stand.ledger.entries())
    name = next(iter(entries[5].tensors))
    false = {"checksum": "0" * 64, "tensors": {**entries[5].tensors, name: "0" * 64}}
    entries[5] = entries[5].model_copy(update={wrong: false[wrong]})
    rewritten(stand, entries)
    assert _kinds(Check(site).run(fold=False)) == ["mirror"]
    report = Check(site).run(fold=True)
    assert _kinds(report) == ["mirror", "state"]
    assert report.findings[1].revisions == (5,)
    assert "the blobs do not give the checksums of r5" in report.findings[1].what
    assert (name in report.findings[1].what) is (wrong == "tensors")


def test_a_broken_chain_is_named(stand: Stand, site: TinySite) -> None:
    varied(stand)
    rewritten(stand, [entry for entry in stand.ledger.entries() if entry.revision != 4])
    report = Check(site).run(fold=True)
    assert "chain" in _kinds(report)
    assert any("r4: there stands r5 with the parent 4" in finding.what for finding in report.findings)
    assert report.reachable == (0, 1, 2, 3)


def test_what_is_no_entry_is_named(stand: Stand, site: TinySite) -> None:
    varied(stand)
    stand.redis.xadd(stand.keys.ledger, {"entry": "{"}, id="9-1")
    finding = _one(Check(site).run(fold=False))
    assert (finding.kind, finding.what[:36]) == ("chain", "What the ledger's stream has as 9-1 ")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda stand, edit: stand.redis.hset(stand.keys.edit(edit), "status", "running"), "document says running"),
        (lambda stand, edit: stand.redis.hset(stand.keys.edit(edit), "revision", "7"), "is another in Redis than in"),
        (lambda stand, edit: stand.redis.hset(stand.keys.edit(edit), "outcome", "{}"), "is another in Redis than in"),
        (lambda stand, edit: stand.redis.delete(stand.keys.edit(edit)), "has no document"),
        (lambda stand, edit: stand.redis.zrem(stand.keys.jobs("edit"), edit), "was committed, and is not listed"),
        (
            lambda stand, edit: stand.redis.zadd(stand.keys.pending, {edit: 1}),
            "is applied, and is pending all the same",
        ),
    ],
)
def test_an_edit_whose_document_is_wrong_is_named(
    stand: Stand, site: TinySite, spoil: Callable[[Stand, str], Any], said: str
) -> None:
    edit = varied(stand)[1]
    spoil(stand, edit)
    report = Check(site).run(fold=False)
    assert any(edit in finding.what and said in finding.what for finding in report.findings), report.findings
    assert report.reachable == tuple(range(9)), "the weights do not depend on it"


def test_an_edit_that_nobody_will_take_up_is_named(stand: Stand, site: TinySite) -> None:
    edit = stand.running_edit()
    assert Check(site).run(fold=False).sound, "it is being computed"
    stand.redis.zrem(stand.keys.pending, edit)
    finding = _one(Check(site).run(fold=False))
    assert (finding.kind, finding.what) == (
        "edit",
        f"edit {edit} is running, and nobody will take it up: it is not pending",
    )


@pytest.mark.parametrize("damage", ["flipped", "truncated"])
def test_a_damaged_line_of_the_mirror_is_named(stand: Stand, site: TinySite, damage: str) -> None:
    varied(stand)
    DAMAGES[damage][0](stand.blobs_folder / "ledger" / "00000002.json")
    finding = _one(Check(site).run(fold=False))
    assert finding.kind == "mirror"
    assert "/ledger/00000002.json is damaged" in finding.what


def test_lines_that_the_mirror_lacks_are_no_damage(stand: Stand, site: TinySite) -> None:
    varied(stand)
    (stand.blobs_folder / "ledger" / "00000008.json").unlink()
    report = Check(site).run(fold=False)
    assert (report.sound, report.unmirrored) == (True, (8,))


def test_another_model_is_refused_and_not_called_damage(stand: Stand, site: TinySite) -> None:
    varied(stand)
    other = site_of(site.redis, site.keys, stand.blobs_folder.parent, "qwen2")
    with pytest.raises(WrongBaseError, match="--no-fold"):
        Check(other).run(fold=True)
    assert Check(other).run(fold=False).sound


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


def test_the_report_is_json(stand: Stand, site: TinySite) -> None:
    varied(stand)
    report = Check(site, [8]).run(fold=False)
    loaded = json.loads(report.model_dump_json())
    assert (loaded["head"], loaded["findings"], loaded["states"], loaded["restored"]) == (8, [], None, [8])


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
