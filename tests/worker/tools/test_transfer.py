"""A ledger that is taken elsewhere boots there to the same checksum; anything else is refused before it is written."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from service.keys import Keys
from tests.families import tiny_model
from tests.worker.engine.kit import Stand, live_checksum
from tests.worker.tools.histories import STEPS, walked
from tests.worker.tools.kit import TinySite, site_of, stopped, varied
from worker.engine.mirror import Line
from worker.errors import CorruptStateError, LedgerBehindError, WorkerError, WrongBaseError
from worker.tools.archive import ArchiveError, read_archive, read_manifest
from worker.tools.fsck import Check
from worker.tools.transfer import export_ledger, import_ledger

OTHER = Keys("elsewhere")


@pytest.fixture
def elsewhere(redis: Redis, tmp_path: Path) -> TinySite:
    """Another installation: other keys and another folder, where no worker has ever started."""
    return site_of(redis, OTHER, tmp_path / "elsewhere")


@pytest.fixture
def archive(stand: Stand, site: TinySite, tmp_path: Path) -> Path:
    """Of a history with every kind of revision."""
    varied(stand)
    export_ledger(site, tmp_path / "ledger.tar")
    return tmp_path / "ledger.tar"


def _untouched(site: TinySite) -> bool:
    """Whether nothing was written there."""
    blobs = site.blobs.sizes()
    return not blobs and not site.mirror.revisions() and not site.redis.keys(f"palimpsest:{site.keys.model}:*")


def _boots(site: TinySite, folder: Path) -> Stand:
    return Stand(site.redis, site.keys, tiny_model(site.family), folder)


@settings(max_examples=10, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, began=st.booleans())
def test_any_history_comes_back_the_same(
    redis: Redis, tmp_path_factory: pytest.TempPathFactory, steps: Any, began: bool
) -> None:
    """Into an installation that has never started, and into one that is at r0."""
    client: Any = redis
    client.flushall()
    here, there = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("there")
    stand = Stand(redis, Keys("test-model"), tiny_model("llama"), here)
    walked(stand, steps)
    site, elsewhere = site_of(redis, stand.keys, here), site_of(redis, OTHER, there)
    manifest = export_ledger(site, here / "ledger.tar")
    first = _boots(elsewhere, there).ledger.entries()[0] if began else stand.ledger.entries()[0]
    client.delete(OTHER.lease)
    assert import_ledger(elsewhere, here / "ledger.tar") == manifest
    again = _boots(elsewhere, there)
    assert again.ledger.entries() == (first, *stand.ledger.entries()[1:])
    assert live_checksum(again.loaded) == live_checksum(stand.loaded) == manifest.head
    assert again.edits.page(None, 100, lambda _: True) == stand.edits.page(None, 100, lambda _: True)
    assert Check(elsewhere).run(fold=True).sound


def test_what_is_imported_can_be_gone_on_from(archive: Path, stand: Stand, elsewhere: TinySite, tmp_path: Path) -> None:
    import_ledger(elsewhere, archive)
    again = _boots(elsewhere, tmp_path / "elsewhere")
    edit = str(again.ledger.entries()[5].edit)
    for one in (stand, again):
        one.history.reapply(edit)
    assert live_checksum(again.loaded) == live_checksum(stand.loaded)
    assert again.running_edit() != edit


def test_an_export_says_what_it_holds_and_is_the_same_every_time(archive: Path, site: TinySite, tmp_path: Path) -> None:
    manifest = read_manifest(archive)
    assert (manifest.model, manifest.revisions, manifest.edits) == ("test-model", 9, 4)
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    assert names == ["manifest.json", *manifest.members]
    assert len([name for name in names if name.startswith("blobs/")]) == 4
    export_ledger(site, tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == archive.read_bytes()
    with pytest.raises(WorkerError, match="is there already"):
        export_ledger(site, archive)
    with pytest.raises(WorkerError, match="cannot be written: No such file or directory"):
        export_ledger(site, tmp_path / "nowhere" / "ledger.tar")


def test_a_damaged_ledger_is_not_exported(stand: Stand, site: TinySite, tmp_path: Path) -> None:
    varied(stand)
    blob = stand.blobs_folder / f"{stand.ledger.entries()[2].blob}.safetensors"
    content = blob.read_bytes()
    blob.write_bytes(content[:-1])
    with pytest.raises(CorruptStateError, match="is damaged"):
        export_ledger(site, tmp_path / "ledger.tar")
    assert not list(tmp_path.glob("ledger.tar*"))
    blob.write_bytes(content)
    stand.redis.flushall()
    with pytest.raises(LedgerBehindError, match="Redis lacks r0 to r8"):
        export_ledger(site, tmp_path / "ledger.tar")


@pytest.mark.parametrize("began", [False, True])
def test_another_base_is_refused(archive: Path, redis: Redis, tmp_path: Path, began: bool) -> None:
    other = site_of(redis, OTHER, tmp_path / "elsewhere", "qwen2")
    if began:
        stopped(_boots(other, tmp_path / "elsewhere"))
    with pytest.raises(WrongBaseError, match="The edits were made on test-model in an unknown dtype"):
        import_ledger(other, archive)
    assert not other.blobs.sizes()
    assert other.head == (0 if began else -1)


def test_a_ledger_with_edits_is_refused(archive: Path, site: TinySite) -> None:
    stopped_state = Check(site).run(fold=False)
    with pytest.raises(WorkerError, match=r"has r8 already.*only where there are none: at r0"):
        import_ledger(site, archive)
    assert Check(site).run(fold=False) == stopped_state


def test_beside_a_worker_nothing_is_imported(archive: Path, elsewhere: TinySite, tmp_path: Path) -> None:
    stand = _boots(elsewhere, tmp_path / "elsewhere")
    with pytest.raises(WorkerError, match="Stop the workers first"):
        import_ledger(elsewhere, archive)
    assert (elsewhere.head, stand.edits.page(None, 9, lambda _: True)[0]) == (0, [])


def test_an_emptied_redis_beside_a_mirror_is_no_place_to_import_to(archive: Path, site: TinySite) -> None:
    site.redis.flushall()
    with pytest.raises(LedgerBehindError):
        import_ledger(site, archive)
    assert site.head == -1


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_archive_is_refused_or_holds_the_same(
    archive: Path, elsewhere: TinySite, data: st.DataObject
) -> None:
    """Whatever byte is changed, and wherever it ends: tar has fields that mean nothing, and nothing else may change."""
    content = archive.read_bytes()
    whole = dict(read_archive(archive))
    at = data.draw(st.integers(0, len(content) - 1))
    cut = data.draw(st.booleans())
    damaged = (
        content[:at]
        if cut
        else content[:at] + bytes([content[at] ^ data.draw(st.integers(1, 255))]) + content[at + 1 :]
    )
    path = archive.with_name("damaged.tar")
    path.write_bytes(damaged)
    try:
        assert dict(read_archive(path)) == whole
    except ArchiveError:
        with pytest.raises(ArchiveError):
            import_ledger(elsewhere, path)
        assert _untouched(elsewhere)


def _remade(archive: Path, change: Callable[[dict[str, bytes], dict[str, Any]], None], **info: Any) -> Path:
    """An archive whose manifest fits whatever was changed in it: only what it says can be wrong."""
    members, manifest = dict(read_archive(archive)), json.loads(read_manifest(archive).model_dump_json())
    change(members, manifest)
    manifest["members"] = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in members.items()
    }
    path = archive.with_name("remade.tar")
    with tarfile.open(path, "w") as tar:
        for name, content in {"manifest.json": json.dumps(manifest).encode(), **members}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for field, value in info.items():
                if name != "manifest.json":
                    setattr(member, field, value)
            tar.addfile(member, io.BytesIO(content))
    return path


def _line(members: dict[str, bytes], at: int, change: Callable[[dict[str, Any]], None]) -> None:
    name = f"ledger/{at:08}.json"
    loaded = json.loads(members[name])
    change(loaded)
    members[name] = Line(loaded["entry"], loaded["edit"]).dump()


def _add(name: str, content: bytes = b"x") -> Callable[[dict[str, bytes], dict[str, Any]], None]:
    return lambda members, _: members.update({name: content})


def _edited(at: int, part: str, **changes: Any) -> Callable[[dict[str, bytes], dict[str, Any]], None]:
    return lambda members, _: _line(members, at, lambda line: line[part].update(changes))


def _drop(prefix: str) -> Callable[[dict[str, bytes], dict[str, Any]], Any]:
    return lambda members, _: members.pop(next(name for name in members if name.startswith(prefix)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_add("../../evil"), r"names '\.\./\.\./evil', which does not belong"),
        (_add("/etc/passwd"), r"names '/etc/passwd', which does not belong"),
        (_add("blobs/../x.safetensors"), "which does not belong"),
        (_add("ledger/00000009.json\n"), "which does not belong"),
        (_add(f"blobs/{'0' * 64}.safetensors"), f"blob {'0' * 64} has another checksum"),
        (_add(f"blobs/{hashlib.sha256(b'x').hexdigest()}.safetensors"), "holds no delta"),
        (_drop("blobs/"), "its blobs are not those that its lines name"),
        (_drop("ledger/00000008"), "the manifest is of another ledger"),
        (_drop("ledger/00000000"), "r0: there stands r1"),
        (_edited(4, "entry", to=3), "r4: its checksum is not that of r3"),
        (_edited(8, "entry", checksum="0" * 64), "r8: its checksum is not that of r3"),
        (_edited(1, "edit", request="[]"), r"edit \w+ of r1 cannot be read"),
        (_edited(1, "edit", outcome="{"), r"edit \w+ of r1 cannot be read"),
        (_edited(1, "edit", seq="-1"), "does not say that it made r1"),
        (_edited(1, "edit", status="queued"), "does not say that it made r1"),
        (_edited(1, "edit", revision="2"), "does not say that it made r1"),
        (_edited(1, "edit", attempts=1), "of r1 is none"),
        (_edited(1, "entry", edit="x:changed"), r"r6: edit \w+ is not in force"),
        (_edited(2, "entry", edit="x:changed"), "edit 'x:changed' of r2 is none"),
        (lambda members, _: _line(members, 2, lambda line: line.update(edit=None)), "r2 must have the document"),
        (lambda members, _: _line(members, 6, lambda line: line.update(edit={"a": "b"})), "r6 must have the document"),
        (lambda _, manifest: manifest.update(format="palimpsest-ledger-2"), "damaged, or of another version"),
        (lambda _, manifest: manifest.update(base="0" * 64), "the manifest is of another ledger"),
        (lambda members, _: members.clear(), "the manifest is of another ledger"),
    ],
)
def test_a_forged_archive_is_refused(archive: Path, elsewhere: TinySite, change: Any, said: str) -> None:
    with pytest.raises(ArchiveError, match=said):
        import_ledger(elsewhere, _remade(archive, change))
    assert _untouched(elsewhere)
    import_ledger(elsewhere, _remade(archive, lambda *_: None))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE]
)
def test_only_plain_files_are_taken(archive: Path, elsewhere: TinySite, kind: bytes) -> None:
    with pytest.raises(ArchiveError):
        import_ledger(elsewhere, _remade(archive, lambda *_: None, type=kind, linkname="/etc/passwd"))
    assert _untouched(elsewhere)


@pytest.mark.parametrize("content", [b"", b"x" * 2000, b"\0" * 10240, None])
def test_what_is_no_archive_is_refused(elsewhere: TinySite, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(ArchiveError, match=r"x\.tar (is|cannot)"):
        import_ledger(elsewhere, tmp_path / "x.tar")
    assert _untouched(elsewhere)
