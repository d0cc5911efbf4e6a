"""Files of an export on their way into the storage, written by threads beside the model's."""

import contextlib
import hashlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import Any, TypeVar

from service.contracts.exports import ExportedFile
from worker.engine.folder import Folder
from worker.errors import StorageError

log = logging.getLogger(__name__)

OLD_SECONDS = 3600.0
"""After which nobody is still reading an object; whoever reads one deletes it afterwards."""

Chunk = bytes | memoryview

Result = TypeVar("Result")


def in_background(compute: Callable[[], Result]) -> "Future[Result]":
    """Compute something in a thread of its own, which ends with the process if need be."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(compute())
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result is told
            future.set_exception(error)

    Thread(target=run, name="export", daemon=True).start()
    return future


class Sink:
    """One object in the storage, which takes files one after the other. Its methods must not run at the same time."""

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder = folder
        self._name = name
        self._seen = hashlib.sha256()
        self._bytes = 0
        self._object: Any = None

    def write(self, chunk: Chunk) -> None:
        """Add to the file that is being written. Raises StorageError."""
        if self._object is None:
            self._object = self._folder.create(self._name)
        with self._folder.telling("written"):
            self._object.write(chunk)
        self._seen.update(chunk)
        self._bytes += len(chunk)

    def end_file(self, name: str) -> ExportedFile:
        """End a file; what follows belongs to the next."""
        ended = ExportedFile(name=name, bytes=self._bytes, sha256=self._seen.hexdigest())
        self._seen, self._bytes = hashlib.sha256(), 0
        return ended

    def close(self) -> None:
        """Everything is written. Raises StorageError."""
        with self._folder.telling("written"):
            self._object.close()

    def discard(self) -> None:
        """Nobody wants it any more."""
        with contextlib.suppress(Exception):
            self._object.close()
        with contextlib.suppress(StorageError):
            self._folder.delete(self._name)


def sweep(folder: Folder) -> None:
    """Delete what was left behind, by readers or writers that died."""
    try:
        for name in folder.names():
            if time.time() - folder.modified(name) > OLD_SECONDS:
                folder.delete(name)
    except StorageError as error:
        log.warning("old exports stay for now: %s", error)
