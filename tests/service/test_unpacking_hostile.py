"""Tars that somebody has made by hand: each is a right export, or an UnpackingError and nothing written."""

import hashlib
import tarfile
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import unpacking
from service.contracts.exports import ExportManifest
from service.unpacking import MOST_MANIFEST_BYTES, UnpackingError, unpack
from tests.service.test_unpacking import archive, in_pieces, manifest, member

BLOCK = tarfile.BLOCKSIZE
FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 5}
CONTENTS = {**FILES, "manifest.json": manifest(FILES)}
END = bytes(2 * BLOCK)

NASTY = ["", "0", "1", "-1", "-512", "1.0", "nan", "inf", "x", "1,2,3", "9" * 30, "9" * 5000, "m/a", "../a", "\0", "é"]
KEYWORDS = ["path", "size", "mtime", "uid", "linkpath", "hdrcharset", "comment"] + [
    f"GNU.sparse.{name}" for name in ("map", "size", "realsize", "name", "major", "minor", "numblocks", "offset")
]


def record(keyword: str, value: str) -> bytes:
    """One of a PAX header, its own length before it."""
    text = f" {keyword}={value}\n".encode("utf-8", "surrogateescape")
    length = len(text)
    while len(str(length)) + len(text) != length:
        length = len(str(length)) + len(text)
    return str(length).encode() + text


def sealed(block: bytes) -> bytes:
    """A header with the checksum that it must have."""
    return block[:148] + b"%06o\0 " % (256 + sum(block[:148]) + sum(block[156:])) + block[156:]


def block_of(name: str, content: bytes, **fields: Any) -> bytes:
    """A header and its content."""
    info, _ = member(name, content, **fields)
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % BLOCK)


def headed(kind: bytes, content: bytes) -> bytes:
    """A header that says something of the next one."""
    return block_of("x", content, type=kind)


def judged(content: bytes, folder: Path) -> bool:
    """Whether it was unpacked: then all is as its manifest says, else nothing is there."""
    try:
        unpack(in_pieces(content, 700), folder)
    except UnpackingError:
        assert list(folder.parent.iterdir()) == []
        return False
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    told = ExportManifest.model_validate_json(files.pop("manifest.json")).files
    assert {name: hashlib.sha256(text).hexdigest() for name, text in files.items()} == {
        name: file.sha256 for name, file in told.items()
    }
    return True


EXTRAS = st.one_of(
    st.lists(
        st.builds(record, st.sampled_from(KEYWORDS), st.sampled_from(NASTY) | st.text(max_size=9)), max_size=6
    ).map(lambda records: headed(tarfile.XHDTYPE, b"".join(records))),
    st.lists(st.builds(record, st.sampled_from(KEYWORDS), st.sampled_from(NASTY)), max_size=3).map(
        lambda records: headed(tarfile.XGLTYPE, b"".join(records))
    ),
    st.builds(headed, st.sampled_from([b"x", b"g", b"L", b"K", b"S", b"X", b"V", b"5", b"7"]), st.binary(max_size=600)),
)
"""What may stand before a file; as often as not, all is well without it."""

CHANGES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, BLOCK - 1), st.integers(0, 255)), max_size=4)
"""Bytes of the files' headers, whose checksums are right again afterwards."""


@given(extras=st.lists(st.tuples(st.integers(0, 3), EXTRAS), max_size=3), changes=CHANGES, cut=st.integers(0, 9000))
@settings(max_examples=300, deadline=None, database=None)
def test_a_right_export_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, extras: list[tuple[int, bytes]], changes: list[Any], cut: int
) -> None:
    members = [block_of(f"m/{name}", content) for name, content in CONTENTS.items()]
    for index, at, byte in changes:
        whole = members[index]
        members[index] = sealed(whole[:at] + bytes([byte]) + whole[at + 1 : BLOCK]) + whole[BLOCK:]
    for index, extra in sorted(extras, key=lambda each: -each[0]):
        members.insert(index, extra)
    content = b"".join(members) + END
    content = content[:-cut] if 0 < cut < 4000 else content
    judged(content, tmp_path_factory.mktemp("hostile") / "adapter")


@given(content=st.binary(max_size=3000))
@settings(max_examples=50, deadline=None, database=None)
def test_anything_at_all(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    judged(content, tmp_path_factory.mktemp("hostile") / "adapter")


def sparse(**said: str) -> bytes:
    records = b"".join(record(f"GNU.sparse.{name}", value) for name, value in said.items())
    return headed(tarfile.XHDTYPE, records) + block_of("m/config.json", b"{}")


@pytest.mark.parametrize(
    ("before", "told"),
    [
        (sparse(major="1", minor="0", realsize="x"), "damaged"),
        (sparse(map="1,x"), "damaged"),
        (
            sparse(size="1", offset="x"),
            "is missing|does not belong",
        ),  # as the Python is
        (headed(tarfile.XHDTYPE, record("comment", "x")) * 3000, "damaged"),
        (headed(tarfile.GNUTYPE_LONGNAME, b"m/config.json\0") * 3000, "damaged"),
    ],
    ids=["sparse 1.0", "sparse 0.1", "sparse 0.0", "a chain of PAX headers", "a chain of long names"],
)
def test_what_tarfile_stumbles_over_is_told(tmp_path: Path, before: bytes, told: str) -> None:
    content = before + b"".join(block_of(f"m/{name}", content) for name, content in CONTENTS.items()) + END
    with pytest.raises(UnpackingError, match=told):
        unpack(in_pieces(content), tmp_path / "adapter")
    assert list(tmp_path.iterdir()) == []


def endless(begin: bytes, taken: list[int]) -> Iterator[bytes]:
    """What begins so and has no end; taken: how long the pieces were that somebody has asked for."""
    for piece in (begin, *repeat(bytes(2**20), 2000)):
        taken.append(len(piece))
        yield piece


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_without_end_is_not_held(tmp_path: Path, kind: bytes) -> None:
    info, _ = member("x", type=kind)
    info.size = 2**33 - BLOCK
    taken: list[int] = []
    with pytest.raises(UnpackingError, match="too long"):
        unpack(endless(info.tobuf(), taken), tmp_path / "adapter")
    assert sum(taken) < 2**23


def test_a_manifest_without_end_is_not_written(tmp_path: Path) -> None:
    info, _ = member("m/manifest.json")
    info.size = MOST_MANIFEST_BYTES + 1
    taken: list[int] = []
    with pytest.raises(UnpackingError, match="is the most"):
        unpack(endless(info.tobuf(), taken), tmp_path / "adapter")
    assert sum(taken) < 2**23


def test_files_without_number_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MOST_FILES", 3)
    for count, fits in ((3, True), (4, False)):
        files = {f"file{number}": b"" for number in range(count)}
        members = [member(f"m/{name}") for name in files]
        content = archive(*members, member("m/manifest.json", manifest(files)))
        assert judged(content, tmp_path / f"{count}" / "adapter") == fits


def test_very_many_files_may_be_right(tmp_path: Path) -> None:
    """Their headers alone are larger than what any one of them may have."""
    files = {f"file{number}": b"x" for number in range(6000)}
    members = [member(f"m/{name}", content) for name, content in files.items()]
    assert judged(archive(*members, member("m/manifest.json", manifest(files))), tmp_path / "adapter")
