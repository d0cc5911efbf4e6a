"""What workers have made and put into the storage of the blobs: read in pieces, and deleted afterwards."""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from service.contracts.exports import FOLDER
from service.errors import ProblemError

PIECE_BYTES = 2**20
"""Read at once, and held for each archive that is being sent."""

_log = logging.getLogger(__name__)


class Stored:
    """Objects by name, in a folder beside the blobs: a path, or a URL that fsspec knows. Names are requests' ids.

    most: archives that are made of them at the same time, of one caller one less, where callers are told apart,
    but never less than one.
    """

    def __init__(self, blobs: str, most: int) -> None:
        self._place = f"{blobs}/{FOLDER}"
        self._shown = re.sub(r"(?<=//)[^/]*@|\?[^/]*", "", self._place)  # without the secrets that a URL may have
        self._most = most
        self._archives = Counter[str | None]()
        self._filesystem: Any = None

    @contextmanager
    def archive(self, caller: str | None) -> Iterator[None]:
        """One archive is made while this is entered. Raises a 503 problem if there are too many, and a
        429 if this caller has too many.

        caller: None for one who is not held back.
        """
        if self._archives.total() >= self._most:
            raise ProblemError(
                503, "queue-full", f"{self._most} exports are being sent, and no more may. Try again.", retry_after=5
            )
        if caller is not None and self._archives[caller] >= (share := max(1, self._most - 1)):
            raise ProblemError(
                429,
                "too-many-at-once",
                f"{share} exports are being sent to the {caller}, and the last place is for others "
                "(PALIMPSEST_MAX_EXPORTS). Let one end first.",
                retry_after=5,
            )
        self._archives[caller] += 1
        try:
            yield
        finally:
            self._archives[caller] -= 1
            if not self._archives[caller]:
                del self._archives[caller]

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator["Opened"]:
        """An object, which is deleted when it is left. Raises a 503 problem if it is not to be had here."""
        opening = asyncio.get_running_loop().run_in_executor(None, self._open, name)
        try:
            file = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(partial(self._opened_late, name))
            raise
        except Exception as error:
            _log.warning("%s/%s, which a worker has written, cannot be read: %s", self._shown, name, _told(error))
            raise ProblemError(
                503,
                "exports-unreachable",
                "The worker has made the files, and the API does not find them: both must have the same "
                "PALIMPSEST_BLOBS, or the same data directory. The API's log names the place.",
            ) from error
        try:
            yield Opened(file)
        finally:
            self._remove_soon(file, name)

    def _open(self, name: str) -> Any:
        if self._filesystem is None:
            local = "://" not in self._place and "::" not in self._place
            self._filesystem = LocalFileSystem() if local else fsspec.url_to_fs(self._place)[0]
        return self._filesystem.open(f"{self._place}/{name}", "rb")

    def _opened_late(self, name: str, opening: asyncio.Future[Any]) -> None:
        """What was opened for somebody who has gone is not read."""
        if opening.exception() is None:
            self._remove_soon(opening.result(), name)

    def _remove_soon(self, file: Any, name: str) -> None:
        """Not waited for: whoever is cancelled may not wait."""
        asyncio.get_running_loop().run_in_executor(None, self._remove, file, name)

    def _remove(self, file: Any, name: str) -> None:
        try:
            file.close()
            self._filesystem.rm_file(f"{self._place}/{name}")
        except Exception as error:  # noqa: BLE001 - each filesystem has errors of its own
            _log.warning("%s/%s stays until it is old: %s", self._shown, name, _told(error))


def _told(error: BaseException) -> str:
    """What the system says of a file; of other storages the kind of error alone, for the rest may hold the URL."""
    return str(error.strerror) if isinstance(error, OSError) and error.strerror else type(error).__name__


class Opened:
    """An object that is read from its beginning to its end."""

    def __init__(self, file: Any) -> None:
        self._file = file

    async def read(self, count: int) -> AsyncIterator[bytes]:
        """The next `count` bytes, in pieces; fewer where it ends before."""
        while count and (piece := await asyncio.to_thread(self._file.read, min(count, PIECE_BYTES))):
            count -= len(piece)
            yield piece
