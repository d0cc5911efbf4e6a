"""fsck names what is damaged and what is lost with it; what it restores has the same checksums as before."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.worker.engine.kit import Stand, live_checksum
from tests.worker.tools.kit import DAMAGES, TinySite, rewritten, site_of, varied
from worker.errors import WrongBaseError
from worker.tools.fsck import Check
from worker.tools.report import Finding, Report


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


def test_the_report_is_json(stand: Stand, site: TinySite) -> None:
    varied(stand)
    report = Check(site, [8]).run(fold=False)
    loaded = json.loads(report.model_dump_json())
    assert (loaded["head"], loaded["findings"], loaded["states"], loaded["restored"]) == (8, [], None, [8])
