"""Takes an export's archive apart as it comes: nothing in it becomes a path, and every checksum must fit."""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any, cast

from pydantic import ValidationError

from service.contracts.exports import ExportManifest, ManifestFile

MANIFEST = "manifest.json"
MOST_MANIFEST_BYTES = 2**28
MOST_FILES = 10_000
"""Of a model of 1,000B parameters in float32 there are 4,000."""
PIECE_BYTES = 2**20
HEADERS_BYTES = 4096
"""Of a file, with all that a tar has beside its content; those of an export have half of that."""
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*/([A-Za-z0-9_][A-Za-z0-9._-]{0,99})")
"""A plain file in a plain folder."""
DAMAGES = (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError)
"""What tarfile raises of tars that nobody would write."""


class UnpackingError(Exception):
    """The archive is not what was made, or has no place to go; nothing was left where it was to be."""


def receive(pieces: Iterator[bytes], out: Path) -> None:
    """Write an archive to a new file if that is named .tar, else its files into a new folder: all or nothing.

    Raises UnpackingError, and whatever the pieces raise.
    """
    (save if out.suffix == ".tar" else unpack)(pieces, out)


def save(pieces: Iterator[bytes], path: Path) -> None:
    """Write the archive itself. Raises as `receive` does."""
    require_new(path)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            for piece in pieces:
                file.write(piece)
        partial.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def unpack(
    pieces: Iterator[bytes], folder: Path, names: Collection[str] | None = None, most: int | None = None
) -> ExportManifest:
    """Write the files into a new folder, and return their manifest. Raises as `receive` does.

    names: all that the files may have; most: bytes of all of them. The manifest has its own bound.
    """
    require_new(folder)
    partial = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.mkdir(parents=True)
        manifest = _unpack(pieces, partial, names, most)
        partial.replace(folder)
    except DAMAGES as error:
        raise UnpackingError(f"The archive is damaged: {error}. Export it again.") from error
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def _unpack(pieces: Iterator[bytes], folder: Path, names: Collection[str] | None, most: int | None) -> ExportManifest:
    found: dict[str, ManifestFile] = {}
    left = most
    stream = _Stream(pieces)
    with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", bufsize=PIECE_BYTES) as tar:
        for info in tar:
            cast(Any, tar).members.clear()  # it would keep what every header says
            match = NAME.fullmatch(info.name)
            file = tar.extractfile(info) if info.isreg() and not info.issparse() else None
            if file is None or match is None or match[1] in found or MANIFEST in found:
                raise _foreign(info)
            name = match[1]
            if name == MANIFEST:
                _require_room(info, MOST_MANIFEST_BYTES)
            elif (names is not None and name not in names) or len(found) >= MOST_FILES:
                raise _foreign(info)
            elif left is not None:
                _require_room(info, left)
                left -= info.size
            stream.allow(info.size)
            found[name] = _written(file, folder / name)
    text = (folder / MANIFEST).read_bytes() if found.pop(MANIFEST, None) else b""
    try:
        manifest = ExportManifest.model_validate_json(text)
    except ValidationError as error:
        raise UnpackingError(f"{MANIFEST} is missing, or of another version of Palimpsest.") from error
    wrong = sorted(name for name in {*found, *manifest.files} if found.get(name) != manifest.files.get(name))
    if wrong:
        raise UnpackingError(f"{', '.join(wrong[:5])}: not what {MANIFEST} says. Export it again.")
    return manifest


def _written(file: IO[bytes], path: Path) -> ManifestFile:
    seen, size = hashlib.sha256(), 0
    with path.open("xb") as target:
        while piece := file.read(PIECE_BYTES):
            seen.update(piece)
            size += len(piece)
            target.write(piece)
    return ManifestFile(sha256=seen.hexdigest(), bytes=size)


def require_new(path: Path) -> None:
    """Raise UnpackingError if something is there already."""
    if os.path.lexists(path):
        raise UnpackingError(f"{path} is there already. Name a new one.")


def _foreign(info: tarfile.TarInfo) -> UnpackingError:
    return UnpackingError(f"{info.name[:200]!r} does not belong into an export. Export it again.")


def _require_room(info: tarfile.TarInfo, most: int) -> None:
    if info.size > most:
        raise UnpackingError(f"{info.name[:200]} has {info.size} bytes, and {most} is the most that it may have here.")


def _unwritable(path: Path, error: OSError) -> UnpackingError:
    return UnpackingError(f"{path} cannot be written: {error.strerror or error}.")


class _Stream:
    """What comes piece by piece, to be read as a file; but no more than is allowed, for tarfile holds whole headers,
    and a header says itself how long it is.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""
        self._allowed = 2 * PIECE_BYTES  # one is read ahead

    def allow(self, count: int) -> None:
        """So many bytes belong to a file that is wanted."""
        self._allowed += count + HEADERS_BYTES

    def read(self, count: int) -> bytes:
        """The next `count` bytes; fewer at the end."""
        parts = [self._left]
        missing = count - len(self._left)
        while missing > 0 and (piece := next(self._pieces, b"")):
            parts.append(piece)
            missing -= len(piece)
        text = b"".join(parts)
        self._left = text[count:]
        self._allowed -= len(text[:count])
        if self._allowed < 0:
            raise tarfile.ReadError("its headers are too long")
        return text[:count]
