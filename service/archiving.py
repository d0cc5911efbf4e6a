"""Archives of an export: a plain tar whose length is known before its first byte, and which is never held."""

import hashlib
import tarfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from service.contracts.exports import ExportedFile, ExportManifest, ManifestFile
from service.stored import Opened, Stored

MANIFEST = "manifest.json"

BLOCK = tarfile.BLOCKSIZE

Make = Callable[[str], Awaitable[tuple[str, ExportedFile]]]
"""Has one file made: returns the object that holds it, and what it is."""


class BrokenExportError(Exception):
    """A file is not what was told of it, so the archive cannot be ended."""


class Archive:
    """One archive: the files, then their manifest, all in `folder`. Files without a checksum are made on the way."""

    def __init__(self, folder: str, files: tuple[ExportedFile, ...], manifest: ExportManifest) -> None:
        self._folder = folder
        self._files = files
        self._manifest = manifest

    @property
    def length(self) -> int:
        """Bytes of all of it: the manifest is as long with the checksums that are not known yet as without them."""
        sizes = {file.name: file.bytes for file in self._files} | {MANIFEST: len(_text(self._manifest))}
        members = (len(self._header(name, size)) + size + len(_padding(size)) for name, size in sizes.items())
        return sum(members) + len(_END)

    @property
    def etag(self) -> str:
        """Strong where every byte is known beforehand; else it names the weights."""
        if all(file.sha256 for file in self._files):
            return f'"{hashlib.sha256(_text(self._manifest)).hexdigest()}"'
        return f'W/"{self._manifest.checksum}"'

    async def content(self, first: Opened, stored: Stored, make: Make) -> AsyncGenerator[bytes, None]:
        """Everything, in pieces. first: the object with the files that are made.

        Raises BrokenExportError, and what `make`, `stored.open` and the storage raise. Then it has no end, so that
        nobody takes it for whole.
        """
        seen: dict[str, ManifestFile] = {}
        for file in self._files:
            if file.sha256 is not None:
                async for piece in self._member(file, first):
                    yield piece
                seen[file.name] = ManifestFile(sha256=file.sha256, bytes=file.bytes)
                continue
            name, made = await make(file.name)
            async with stored.open(name) as opened:
                if (made.name, made.bytes) != (file.name, file.bytes):
                    raise BrokenExportError(f"{made.name} of {made.bytes} bytes came instead of {file}")
                async for piece in self._member(made, opened):
                    yield piece
            seen[file.name] = ManifestFile(sha256=made.sha256 or "", bytes=made.bytes)
        text = _text(self._manifest.model_copy(update={"files": seen}))
        yield self._header(MANIFEST, len(text)) + text + _padding(len(text)) + _END

    async def _member(self, file: ExportedFile, opened: Opened) -> AsyncGenerator[bytes, None]:
        yield self._header(file.name, file.bytes)
        seen = hashlib.sha256()
        async for piece in opened.read(file.bytes):
            seen.update(piece)
            yield piece
        if seen.hexdigest() != file.sha256:
            raise BrokenExportError(f"{file.name} is shorter than the worker has told, or another")
        yield _padding(file.bytes)

    def _header(self, name: str, size: int) -> Any:
        info = tarfile.TarInfo(f"{self._folder}/{name}")
        info.size, info.mtime, info.mode = size, int(self._manifest.made_at.timestamp()), 0o644
        return info.tobuf(tarfile.PAX_FORMAT)


_END = bytes(2 * BLOCK)


def _text(manifest: ExportManifest) -> bytes:
    return manifest.model_dump_json(indent=1).encode()


def _padding(size: int) -> bytes:
    return bytes(-size % BLOCK)
