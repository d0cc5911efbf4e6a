"""How an export is made: steps on the model's thread, between which other threads compute and write."""

from collections.abc import Generator, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from service.contracts.exports import ExportedFile
from worker.engine.folder import Folder
from worker.export.sink import Chunk, Sink, in_background

Result = TypeVar("Result")

Work = Generator[Future[Any] | None, None, Result]
"""Steps; a future that is yielded is waited for before the next one. Closing it leaves nothing behind but that."""


def done(future: Future[Result]) -> Work[Result]:
    """What a future brings, once it is there."""
    yield future
    return future.result()


def put(folder: Folder, name: str, files: Iterable[tuple[str, Iterable[Chunk]]]) -> Work[tuple[ExportedFile, ...]]:
    """Write files, one behind the other, as one object; a chunk is taken while the one before it is being written.

    Raises StorageError.
    """
    sink = Sink(folder, name)
    writing: Future[None] | None = None
    ended: list[ExportedFile] = []
    try:
        for file, chunks in files:
            for chunk in chunks:
                if writing is not None:
                    yield from done(writing)
                writing = in_background(partial(sink.write, chunk))
                yield None
            if writing is not None:
                yield from done(writing)
            ended.append(sink.end_file(file))
        writing = in_background(sink.close)
        yield from done(writing)
    except BaseException:  # closed by whoever drives it, too
        if writing is not None:
            writing.add_done_callback(lambda _: sink.discard())
        raise
    return tuple(ended)
