"""The worker's own text for key statistics: a file, or a folder of .txt files."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from worker.editing.progress import Step, Steps
from worker.errors import EditError

CHUNK = 1 << 25
"""Bytes hashed in one step: tens of milliseconds."""

LONGEST_LINE = 1 << 16
"""Characters tokenized at once, where a line is longer."""


def files(path: Path) -> Sequence[Path]:
    """The file itself, or all .txt files below the folder, in the order of their paths; EditError if there is none."""
    try:
        if path.is_dir():
            found = sorted(file for file in path.rglob("*.txt") if file.is_file())
        else:
            path.stat()
            found = [path]
    except OSError as error:
        raise _unreadable(error) from error
    if not found:
        raise EditError("no-corpus", "hparams.mom2_dataset", "the worker's PALIMPSEST_CORPUS has no .txt file in it")
    return found


def signature(found: Sequence[Path]) -> tuple[tuple[str, int, int], ...]:
    """Changes when a file does: each one's path, size and time of change."""
    try:
        stats = [(str(path), path.stat()) for path in found]
    except OSError as error:
        raise _unreadable(error) from error
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def digest(found: Sequence[Path]) -> Steps[str]:
    """sha256 over the files' contents, in order, whatever they are called."""
    whole = hashlib.sha256()
    try:
        for path in found:
            own = hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    own.update(chunk)
                    yield Step("statistics")
            whole.update(own.digest())
    except OSError as error:
        raise _unreadable(error) from error
    return whole.hexdigest()


def documents(found: Sequence[Path]) -> Iterator[str]:
    """The files' lines, in order; EditError if one cannot be read."""
    try:
        for path in found:
            with path.open(encoding="utf-8") as file:
                while line := file.readline(LONGEST_LINE):
                    yield line
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError | UnicodeDecodeError) -> EditError:
    reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
    detail = f"the worker's PALIMPSEST_CORPUS cannot be read ({reason}); mend it, or use 'self'"
    return EditError("corpus-unreadable", "hparams.mom2_dataset", detail)
