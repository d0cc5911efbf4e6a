"""Files are there whole or not at all, on a disk and in a storage that fsspec reaches; what fails is named."""

import errno
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from tests.families import tiny_model
from tests.worker.engine.kit import random_delta
from worker.engine.blobs import BlobStore
from worker.engine.folder import Folder
from worker.errors import StorageError, WorkerError
from worker.settings import Settings

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["local", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "local":
        yield str(tmp_path / "deep" / "folder")
    else:
        yield f"memory://{tmp_path.name}/deep"
        MemoryFileSystem.store.clear()


class Broken(MemoryFileSystem):  # type: ignore[misc]
    """A storage that answers everything with an error."""

    cachable = False

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def pipe_file(self, *_: Any, **__: Any) -> None:
        raise self.error

    cat_file = ls = modified = rm_file = pipe_file


class Strict(MemoryFileSystem):  # type: ignore[misc]
    """A storage that makes no folder by itself, as most have it whose folders are real."""

    cachable = False

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        if not self.isdir(path.rsplit("/", 1)[0]):
            raise FileNotFoundError(path)
        super().pipe_file(path, value, mode, **kwargs)


def test_folders_are_made_where_they_have_to_be_and_buckets_are_not(tmp_path: Path) -> None:
    storage = Strict()
    folder = Folder(storage, f"/{tmp_path.name}/deep/folder")
    with pytest.raises(StorageError, match=r"cannot be written"):
        folder.write("a", b"1")
    assert not storage.exists(f"/{tmp_path.name}")
    storage.mkdir(f"/{tmp_path.name}")
    folder.write("a", b"1")
    assert folder.read("a") == b"1"
    storage.rm(f"/{tmp_path.name}", recursive=True)


def test_what_is_written_is_read(place: str) -> None:
    folder = Folder.at(place)
    assert (folder.names(), folder.sizes(), folder.read("a")) == ([], {}, None)
    folder.write("a", b"first")
    folder.write("a", b"one\0")
    folder.write("b", b"")
    folder.under("within").write("c", b"three")
    assert (folder.read("a"), folder.read("b"), Folder.at(f"{place}/within").read("c")) == (b"one\0", b"", b"three")
    assert folder.sizes() == {"a": 4, "b": 0}
    assert sorted(folder.names()) == ["a", "b", "within"]
    assert abs(time.time() - folder.modified("a")) < 3600
    folder.delete("a")
    assert (folder.read("a"), folder.sizes()) == (None, {"b": 0})


class Remembering(MemoryFileSystem):  # type: ignore[misc]
    """A storage that lists a folder once, as s3fs does, until it is told that others may have written there."""

    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.listed: dict[tuple[str, bool], Any] = {}

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        if (path, detail) not in self.listed:
            self.listed[path, detail] = super().ls(path, detail, **kwargs)
        return self.listed[path, detail]

    def invalidate_cache(self, path: str | None = None) -> None:
        self.listed = {key: found for key, found in self.listed.items() if key[0] != path}


def test_a_host_sees_what_another_wrote(tmp_path: Path) -> None:
    here, there = (Folder(Remembering(), f"/{tmp_path.name}") for _ in range(2))
    for count, name in enumerate("ab", 1):
        here.write(name, b"1")
        assert (len(there.names()), len(there.sizes())) == (count, count)
    MemoryFileSystem.store.clear()


def test_blobs_lie_in_any_storage(place: str) -> None:
    delta = random_delta(tiny_model("gpt2"), 0, 3, rank=2)
    digest = BlobStore(place).put(delta)
    assert BlobStore(place).put(BlobStore(place).get(digest)) == digest
    assert set(BlobStore(place).sizes()) == {digest}


def test_the_name_has_no_password() -> None:
    assert Folder.at("memory://bucket/prefix").name == "memory:///bucket/prefix"
    assert Folder(LocalFileSystem(), "/data/blobs/").name == "/data/blobs"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 507, "There is no room left in memory:///x"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 507, "There is no room left in memory:///x"),
        (PermissionError(errno.EACCES, "Permission denied"), 503, r"memory:///x cannot be \w+ \(Permission denied\)"),
        (RuntimeError("the bucket does not answer\n  (at all)"), 503, r"cannot be \w+ \(the bucket does not answer\)"),
        (TimeoutError(), 503, r"cannot be \w+ \(TimeoutError\)"),
    ],
)
def test_what_a_storage_says_is_passed_on(error: Exception, status: int, said: str) -> None:
    folder = Folder(Broken(error), "/x")
    attempts: list[Any] = [
        lambda: folder.write("a", b""),
        lambda: folder.read("a"),
        folder.names,
        folder.sizes,
        lambda: folder.modified("a"),
        lambda: folder.delete("a"),
    ]
    for attempt in attempts:
        with pytest.raises(StorageError, match=said) as raised:
            attempt()
        assert raised.value.problem.status == status


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """The system itself refuses: no file of this process may grow beyond 1000 bytes."""
    program = """
import resource, sys
from worker.engine.folder import Folder
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
folder = Folder.at(sys.argv[1])
folder.write("small", b"x" * 1000)
try:
    folder.write("large", b"x" * 1001)
except Exception as error:
    print(type(error).__name__, error.problem.status, error)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "folder")]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("StorageError 507 There is no room left in ")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["small"]


def test_a_file_in_a_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=rf"{tmp_path}/file cannot be written"):
        Folder.at(tmp_path / "file").write("a", b"")


@pytest.mark.parametrize("place", ["nosuch://bucket", "s3://bucket/prefix"])
def test_a_storage_that_is_not_installed_is_named(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(WorkerError, match="PALIMPSEST_BLOBS names a storage that cannot be used here: "):
        Folder.at(place)


@pytest.mark.parametrize(
    ("blobs", "expected"),
    [(None, "data/blobs/org--model"), ("s3://bucket/prefix/", "s3://bucket/prefix/org--model")],
)
def test_every_model_has_a_folder_of_its_own(blobs: str | None, expected: str) -> None:
    assert Settings(data_dir=Path("data"), blobs=blobs).blobs_of("org/model") == expected
