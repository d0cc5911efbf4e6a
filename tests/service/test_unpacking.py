"""Archives that come: whole in a file or apart in a folder, or nothing at all, whatever they hold."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.contracts.exports import ExportKind, ExportManifest, ManifestFile
from service.unpacking import UnpackingError, receive, unpack

FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 9000}


def manifest(files: dict[str, bytes]) -> bytes:
    made = ExportManifest(
        kind=ExportKind.CHECKPOINT,
        model="m",
        family="llama",
        dtype="float32",
        base="b",
        revision=1,
        checksum="c",
        tensors={},
        made_at=datetime.now(UTC),
        edits=(),
        files={
            name: ManifestFile(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
            for name, content in files.items()
        },
    )
    return made.model_dump_json().encode()


def member(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return target.getvalue()


def whole(files: dict[str, bytes]) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [member(f"m-r1/{name}", content) for name, content in files.items()]


def in_pieces(content: bytes, length: int = 70_000) -> Iterator[bytes]:
    return (content[at : at + length] for at in range(0, len(content), length))


MANIFEST = manifest(FILES)
GOOD = archive(*whole(FILES), member("m-r1/manifest.json", MANIFEST))


@given(length=st.integers(1, 3_000_000))
@settings(max_examples=20, deadline=None, database=None)
def test_a_folder_has_the_files(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    folder = tmp_path_factory.mktemp("apart") / "within" / "adapter"
    receive(in_pieces(GOOD, max(length, 500)), folder)
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert found == {**FILES, "manifest.json": MANIFEST}
    assert [path.name for path in folder.parent.iterdir()] == ["adapter"]


def test_of_what_is_known_beforehand_nothing_else_is_written(tmp_path: Path) -> None:
    size = sum(map(len, FILES.values()))
    assert unpack(in_pieces(GOOD), tmp_path / "all", FILES, size).files.keys() == FILES.keys()
    for names, most, words in (({"config.json"}, size, "does not belong"), (FILES, size - 1, "is the most")):
        with pytest.raises(UnpackingError, match=words):
            unpack(in_pieces(GOOD), tmp_path / "some", names, most)
    assert [path.name for path in tmp_path.iterdir()] == ["all"]


def test_a_tar_is_kept_as_it_is(tmp_path: Path) -> None:
    receive(in_pieces(GOOD), tmp_path / "adapter.tar")
    assert (tmp_path / "adapter.tar").read_bytes() == GOOD
    assert len(list(tmp_path.iterdir())) == 1


BAD = {
    "a path out of the folder": (archive(member("../evil", b"x")), "does not belong"),
    "a path from the root": (archive(member("/etc/..", b"x")), "does not belong"),
    "a hidden file": (archive(member("m/.bashrc", b"x")), "does not belong"),
    "a link": (archive(member("m/config.json", type=tarfile.SYMTYPE, linkname="/etc/passwd")), "does not belong"),
    "a hard link": (archive(member("m/config.json", type=tarfile.LNKTYPE, linkname="m/x")), "does not belong"),
    "a device": (archive(member("m/null", type=tarfile.CHRTYPE)), "does not belong"),
    "a file twice": (archive(member("m/a", b"x"), member("n/a", b"x")), "does not belong"),
    "something behind the manifest": (
        archive(member("m/manifest.json", manifest({})), member("m/a", b"x")),
        "does not belong",
    ),
    "no manifest": (archive(*whole(FILES)), "is missing"),
    "a manifest of something else": (archive(member("m/manifest.json", b"{}")), "another version"),
    "a file that is another": (
        archive(*whole({**FILES, "config.json": b"[]"}), member("m/manifest.json", manifest(FILES))),
        "config.json: not what",
    ),
    "a file too few": (archive(member("m/manifest.json", manifest(FILES))), "config.json, model.safetensors: not what"),
    "a file too many": (archive(*whole(FILES), member("m/manifest.json", manifest({}))), "config.json"),
    "no tar": (b"<html>" * 5000, "damaged"),
    "nothing": (b"", "damaged"),
    "cut off": (GOOD[:-50_000], "damaged"),
    "cut off in a header": (GOOD[:700], "damaged"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_export_leaves_nothing(tmp_path: Path, case: str) -> None:
    content, words = BAD[case]
    with pytest.raises(UnpackingError, match=words):
        receive(in_pieces(content), tmp_path / "adapter")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["adapter", "adapter.tar"])
def test_a_connection_that_breaks_leaves_nothing(tmp_path: Path, name: str) -> None:
    def breaks() -> Iterator[bytes]:
        yield GOOD[:1000]
        raise ConnectionResetError("reset by peer")

    with pytest.raises((ConnectionResetError, UnpackingError)):
        receive(breaks(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["adapter", "adapter.tar"])
def test_what_is_there_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UnpackingError, match="is there already"):
        receive(in_pieces(GOOD), tmp_path / name)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["adapter", "adapter.tar"])
def test_a_place_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnpackingError, match="cannot be written"):
        receive(in_pieces(GOOD), tmp_path / "file" / name)
