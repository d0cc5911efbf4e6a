"""The commands for a ledger at rest: thin over `python -m worker.tools`, which they give a Redis if there is none."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from service.children import POLL_SECONDS, Child
from service.claims import DataDirectory, UpError
from service.commands.options import (
    DATA,
    MODEL,
    DataOption,
    DeviceOption,
    Dtype,
    DtypeOption,
    JsonOption,
    ModelOption,
    set_worker,
)
from service.keys import Keys, model_name

TOOLS = (sys.executable, "-m", "worker.tools")

UNDONE = 2
"""The exit code of a tool that could not do what it was asked for, as in worker/tools; 1 is an fsck's finding."""

STOP_SECONDS = 15.0
"""How long Redis may take to finish writing."""


def fsck(
    model: ModelOption = MODEL,
    dtype: DtypeOption = Dtype.AUTO,
    device: DeviceOption = "auto",
    data_dir: DataOption = DATA,
    restore: Annotated[bool, typer.Option("--restore", help="First give Redis back what only the mirror has.")] = False,
    fold: Annotated[bool, typer.Option(help="Load the model, and compute every revision's weights again.")] = True,
    roll_back: Annotated[
        bool, typer.Option("--roll-back", help="Then go back to what needs nothing damaged, if the head does.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check every blob and every checksum, and say what would be lost. Exit code 0: sound; 1: not; 2: not checked."""
    options = {"--restore": restore, "--no-fold": not fold, "--roll-back": roll_back}
    set_worker(model, dtype, device, data_dir)
    _run(model, data_dir, "fsck", *(name for name, given in options.items() if given), as_json=as_json)


def gc(
    model: ModelOption = MODEL,
    data_dir: DataOption = DATA,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete blobs that no revision names, once they are an hour old."""
    set_worker(model, Dtype.AUTO, "auto", data_dir)
    _run(model, data_dir, "gc", *["--dry-run"] * dry_run, as_json=as_json)


def export_ledger(
    file: Annotated[Path, typer.Argument(help="A new file, a tar.")],
    model: ModelOption = MODEL,
    data_dir: DataOption = DATA,
    as_json: JsonOption = False,
) -> None:
    """Write the whole history with its blobs to a file, for another installation of the same base model."""
    set_worker(model, Dtype.AUTO, "auto", data_dir)
    _run(model, data_dir, "export", str(file), as_json=as_json)


def import_ledger(
    file: Annotated[Path, typer.Argument(help="What export-ledger wrote.")],
    model: ModelOption = MODEL,
    dtype: DtypeOption = Dtype.AUTO,
    device: DeviceOption = "auto",
    data_dir: DataOption = DATA,
    as_json: JsonOption = False,
) -> None:
    """Take over a history where there are no edits yet; the base model must be the same."""
    set_worker(model, dtype, device, data_dir)
    _run(model, data_dir, "import", str(file), as_json=as_json)


def import_adapter(
    file: Annotated[Path, typer.Argument(help="What export --adapter made: a .tar, or a folder.")],
    model: ModelOption = MODEL,
    dtype: DtypeOption = Dtype.AUTO,
    device: DeviceOption = "auto",
    data_dir: DataOption = DATA,
    as_json: JsonOption = False,
) -> None:
    """Take over another installation's adapter as one edit on top of the head; the base model must be the same."""
    set_worker(model, dtype, device, data_dir)
    _run(model, data_dir, "import-adapter", str(file), as_json=as_json)


def _run(model: str, data_dir: Path, *asked: str, as_json: bool) -> NoReturn:
    arguments = (*asked, "--json") if as_json else asked
    if os.environ.get("REDIS_URL"):
        os.execv(sys.executable, [*TOOLS, *arguments])  # noqa: S606 - becomes the tool; there is no shell
    try:
        code = _beside_embedded(Keys(model_name(model)), data_dir, arguments)
    except UpError as error:
        Console(stderr=True).print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        code = UNDONE
    raise typer.Exit(code)


def _beside_embedded(keys: Keys, data_dir: Path, arguments: tuple[str, ...]) -> int:
    """Run a tool on the data directory's own Redis, which is started for it alone."""
    from service.embedded import EmbeddedRedis  # noqa: PLC0415 - the client commands start without Redis' client

    try:
        directory = DataDirectory(data_dir)
    except UpError as error:
        raise UpError(f"{error} Or set REDIS_URL, if it works with a Redis of your own.") from error
    with _stopped_by_signals():
        try:
            redis = EmbeddedRedis(directory.path / "redis", keep=(directory.fd,))
            try:
                redis.wait()
                redis.forget(keys.lease)  # whoever holds the data directory is alone with it
                tool = Child("tool", [*TOOLS, *arguments], env={"REDIS_URL": redis.url}, keep=(directory.fd,))
                return _ended(tool)
            finally:
                redis.child.interrupt()
                redis.child.wait(STOP_SECONDS)
        finally:
            directory.release()


def _ended(tool: Child) -> int:
    try:
        while tool.exit_code is None:
            time.sleep(POLL_SECONDS)
    finally:
        tool.interrupt()
        tool.wait(STOP_SECONDS)
    return tool.exit_code if tool.exit_code >= 0 else UNDONE


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP are taken as Ctrl-C is, so that what was started ends first."""

    def stop(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a signal handler
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
