"""A ledger in one file: a plain tar with a manifest, the lines, and the blobs that they name.

Nothing of an archive is believed before its checksum fits the manifest, and no name in it becomes a path.
"""

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from service.contracts.base import Contract
from worker.errors import WorkerError

MANIFEST = "manifest.json"
NAMES = re.compile(r"ledger/[0-9]{8}\.json|blobs/[0-9a-f]{64}\.safetensors")
"""All names that a member may have."""

MOST_MANIFEST_BYTES = 2**28


class Member(Contract):
    """A file in the archive."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Manifest(Contract):
    """What an archive holds. It is the first member; the others follow in the order in which they are named."""

    format: Literal["palimpsest-ledger-1"] = "palimpsest-ledger-1"
    model: str
    base: str = Field(description="the base's checksum, which includes the dtype of the weights")
    dtype: str | None = Field(description="of the weights, where the installation knew it")
    head: str = Field(description="the checksum of the newest revision")
    revisions: int
    edits: int
    members: Mapping[str, Member]


class ArchiveError(WorkerError):
    """An archive is not what was written; nothing of it was taken over."""


def write_archive(path: Path, manifest: Manifest, contents: Iterable[tuple[str, Callable[[], bytes]]]) -> None:
    """Write an archive whole, or leave nothing; the contents must be those that the manifest names."""
    if path.exists():
        raise WorkerError(f"{path} is there already. Name a new file.")
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                _add(tar, MANIFEST, manifest.model_dump_json(indent=1).encode())
                for name, content in contents:
                    _add(tar, name, content())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise WorkerError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        partial.unlink(missing_ok=True)


def read_manifest(path: Path) -> Manifest:
    """The manifest alone; raises ArchiveError if there is none."""
    _, content = next(_members(path, {}))
    return _parsed(content)


def read_archive(path: Path) -> Iterator[tuple[str, bytes]]:
    """All members but the manifest, each checked; raises ArchiveError at the first that is not as it was written."""
    manifest = read_manifest(path)
    waiting = iter(manifest.members.items())
    members = _members(path, manifest.members)
    next(members)
    for name, content in members:
        expected, member = next(waiting, (None, None))
        if name != expected or member is None:
            raise ArchiveError(f"{path}: {name!r} stands where {expected!r} should.")
        if hashlib.sha256(content).hexdigest() != member.sha256:
            raise ArchiveError(f"{path}: {name} is damaged. Export the ledger again.")
        yield name, content
    if (missing := next(waiting, None)) is not None:
        raise ArchiveError(f"{path} ends before {missing[0]}. Export the ledger again.")


def _members(path: Path, known: Mapping[str, Member]) -> Iterator[tuple[str, bytes]]:
    """Plain members by name; of those after the manifest only what is known, at the size that is known."""
    try:
        with tarfile.open(path, "r:") as tar:
            for index, info in enumerate(tar):
                size = known[info.name].bytes if info.name in known else None
                if not info.isreg() or info.issparse() or (index == 0) != (info.name == MANIFEST):
                    raise ArchiveError(f"{path}: {info.name!r} does not belong into an archive of a ledger.")
                if index > 0 and info.size != size:
                    raise ArchiveError(f"{path}: {info.name!r} is not what the manifest says.")
                if index == 0 and info.size > MOST_MANIFEST_BYTES:
                    raise ArchiveError(f"{path}: its manifest is too large to be one.")
                file = tar.extractfile(info)
                yield info.name, file.read() if file else b""
                if index == 0 and not known:
                    return
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise ArchiveError(f"{path} is no archive, or a damaged one: {error}.") from error
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not known:
        raise ArchiveError(f"{path} is empty.")


def _parsed(content: bytes) -> Manifest:
    try:
        manifest = Manifest.model_validate(json.loads(content))
    except (ValidationError, ValueError, RecursionError) as error:
        raise ArchiveError(f"The manifest is damaged, or of another version: {error}") from error
    for name in manifest.members:
        if not NAMES.fullmatch(name):
            raise ArchiveError(f"The manifest names {name!r}, which does not belong into an archive of a ledger.")
    return manifest


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, BytesIO(content))
