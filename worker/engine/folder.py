"""A folder of small files that are written whole and never changed: on this machine, or wherever fsspec reaches."""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from worker.errors import StorageError, WorkerError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a system says of a write for which there is no room."""


class Folder:
    """Files by name. Errors of the storage are StorageErrors, which name it and say what it said.

    filesystem: an fsspec filesystem; path: as that filesystem has it.
    """

    def __init__(self, filesystem: Any, path: str) -> None:
        self._filesystem = filesystem
        self._path = path.rstrip("/")
        self._local = isinstance(filesystem, LocalFileSystem)
        self.name = self._path if self._local else str(filesystem.unstrip_protocol(self._path))

    @classmethod
    def at(cls, place: str | Path) -> "Folder":
        """The folder at a path, or at a URL such as s3://bucket/prefix."""
        text = str(place)
        if "://" not in text and "::" not in text:
            return cls(LocalFileSystem(), os.path.abspath(os.path.expanduser(text)))  # noqa: PTH100, PTH111 - a str
        try:
            filesystem, path = fsspec.url_to_fs(text)
        except (ImportError, ValueError) as error:
            raise WorkerError(f"PALIMPSEST_BLOBS names a storage that cannot be used here: {error}") from error
        return cls(filesystem, path)

    def under(self, name: str) -> "Folder":
        """The folder of that name in this one."""
        return Folder(self._filesystem, f"{self._path}/{name}")

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole, or not at all; on this machine it is on disk when this returns."""
        try:
            if self._local:
                _write_durably(Path(self._path), name, content)
            else:
                self._write_object(name, content)
        except Exception as error:  # each filesystem has errors of its own
            raise self._failed(error, "written") from error

    def create(self, name: str) -> Any:
        """A file that is written piece by piece, not synced, and seen by others before it is whole."""
        with self.telling("written"):
            try:
                return self._filesystem.open(self._at(name), "wb")
            except FileNotFoundError:
                self._filesystem.makedirs(self._path, exist_ok=True)
                return self._filesystem.open(self._at(name), "wb")

    @contextmanager
    def telling(self, done: str) -> Iterator[None]:
        """What the storage says while something is done with a file is raised as a StorageError."""
        try:
            yield
        except Exception as error:
            raise self._failed(error, done) from error

    def read(self, name: str) -> bytes | None:
        """What the file holds; None if it is not there."""
        try:
            return bytes(self._filesystem.cat_file(self._at(name)))
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._failed(error, "read") from error

    def sizes(self) -> Mapping[str, int]:
        """The files by name, with their bytes; nothing of folders within."""
        try:
            self._filesystem.invalidate_cache(self._path)
            found = self._filesystem.ls(self._path, detail=True)
        except FileNotFoundError:
            return {}
        except Exception as error:
            raise self._failed(error, "listed") from error
        return {one["name"].rsplit("/", 1)[-1]: int(one["size"] or 0) for one in found if one["type"] == "file"}

    def names(self) -> list[str]:
        """The names of what is there; of many files much faster than their sizes."""
        try:
            self._filesystem.invalidate_cache(self._path)
            return [one.rsplit("/", 1)[-1] for one in self._filesystem.ls(self._path, detail=False)]
        except FileNotFoundError:
            return []
        except Exception as error:
            raise self._failed(error, "listed") from error

    def modified(self, name: str) -> float:
        """When the file was written, in seconds since 1970."""
        try:
            return float(self._filesystem.modified(self._at(name)).timestamp())
        except Exception as error:
            raise self._failed(error, "read") from error

    def delete(self, name: str) -> None:
        """Delete the file."""
        try:
            self._filesystem.rm_file(self._at(name))
        except Exception as error:
            raise self._failed(error, "changed") from error

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}"

    def _write_object(self, name: str, content: bytes) -> None:
        try:
            self._filesystem.pipe_file(self._at(name), content)
        except FileNotFoundError:
            slash = self._path.startswith("/")
            if not self._filesystem.exists("/" * slash + self._path.strip("/").split("/")[0]):
                raise  # a bucket is its owner's to make; folders have to be made where there are any
            self._filesystem.makedirs(self._path, exist_ok=True)
            self._filesystem.pipe_file(self._at(name), content)

    def _failed(self, error: Exception, done: str) -> StorageError:
        if isinstance(error, OSError) and error.errno in FULL:
            return StorageError(
                507, "storage-full", f"There is no room left in {self.name}, so nothing was changed. Make room there."
            )
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        reason = reason.strip().split("\n")[0]
        return StorageError(
            503, "storage-unavailable", f"{self.name} cannot be {done} ({reason}). See to it, and try again."
        )


def _write_durably(directory: Path, name: str, content: bytes) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / f"{name}.{os.getpid()}.partial"
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(directory / name)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
