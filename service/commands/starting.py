"""The commands that start something on this machine: the server or its parts, the demo, a pass over text."""

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from service import logs
from service.claims import UpError
from service.commands.exits import Exit, exit_of
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
from service.settings import Settings


class Source(StrEnum):
    """The text that key statistics are taken over."""

    SELF = "self"
    CORPUS = "corpus"
    WIKIPEDIA = "wikipedia"
    WIKITEXT = "wikitext"


def _layers(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"\d+(,\d+)*", value):
        raise typer.BadParameter("must be numbers with commas between them, such as 4,5,6,7,8")
    return value


HostOption = Annotated[str, typer.Option("--host", envvar="PALIMPSEST_HOST", help="Address to listen on.")]
WorkersOption = Annotated[
    int,
    typer.Option(
        "--workers", envvar="PALIMPSEST_WORKERS", min=1, help="Processes, each with the whole model; one of them edits."
    ),
]
PortOption = Annotated[
    int, typer.Option("--port", envvar="PALIMPSEST_PORT", min=0, max=65535, help="Port to listen on; 0 picks one.")
]
InsecureOption = Annotated[
    bool,
    typer.Option(
        "--insecure", envvar="PALIMPSEST_INSECURE", help="Serve others than this machine even if there is no API key."
    ),
]
MethodOption = Annotated[str | None, typer.Option("--method", help="Of its layers, as much text as it needs.")]
LayersOption = Annotated[str | None, typer.Option("--layers", callback=_layers, help="Such as 4,5,6,7,8.")]
TokensOption = Annotated[
    int | None, typer.Option("--tokens", min=1, help="To average over; else a multiple of the key's dimension.")
]
SourceOption = Annotated[
    Source | None,
    typer.Option("--source", help="self: sampled from the model; corpus: --corpus; the others: published or streamed."),
]
CorpusOption = Annotated[
    Path | None,
    typer.Option("--corpus", exists=True, help="A text file, or a folder of .txt files; else PALIMPSEST_CORPUS."),
]

HOST, PORT = "127.0.0.1", 8000

_log = logging.getLogger(__name__)


def up(
    model: ModelOption = MODEL,
    dtype: DtypeOption = Dtype.AUTO,
    device: DeviceOption = "auto",
    data_dir: DataOption = DATA,
    host: HostOption = HOST,
    port: PortOption = PORT,
    workers: WorkersOption = 1,
    insecure: InsecureOption = False,
) -> None:
    """Start Redis (REDIS_URL, or an embedded Valkey), the API and the workers; Ctrl-C stops all."""
    from service.supervisor import Stack, Supervisor  # noqa: PLC0415 - the client commands start without Redis' client

    settings = Settings(model=model, data_dir=data_dir, host=host, port=port, insecure=insecure)
    Supervisor(Stack(settings, dtype.value, device, workers), Console()).run()


def api(
    model: ModelOption = MODEL,
    data_dir: DataOption = DATA,
    host: HostOption = HOST,
    port: PortOption = PORT,
    insecure: InsecureOption = False,
) -> None:
    """Start the API alone, beside a Redis (REDIS_URL) and a worker that run elsewhere."""
    settings = Settings(model=model, data_dir=data_dir, host=host, port=port, insecure=insecure)
    logs.set_up("api", settings.log_format, logging.WARNING)  # before anything can go wrong
    from service.auth import refuse_open  # noqa: PLC0415 - nor with the web framework
    from service.server import run  # noqa: PLC0415 - nor with the web framework

    with _refusals_told_as(settings.log_format):
        refuse_open(settings, _require_redis(settings))
    if not run(settings):
        raise typer.Exit(Exit.FAILED)


def worker(
    model: ModelOption = MODEL,
    dtype: DtypeOption = Dtype.AUTO,
    device: DeviceOption = "auto",
    data_dir: DataOption = DATA,
) -> None:
    """Start a worker alone, beside a Redis (REDIS_URL) and an API that run elsewhere."""
    settings = Settings(model=model, data_dir=data_dir)
    _require_redis(settings)
    set_worker(model, dtype, device, data_dir)
    os.execv(sys.executable, [sys.executable, "-m", "worker"])  # noqa: S606 - becomes the worker; there is no shell


def stats(
    model: ModelOption = MODEL,
    dtype: DtypeOption = Dtype.AUTO,
    device: DeviceOption = "auto",
    data_dir: DataOption = DATA,
    method: MethodOption = None,
    layers: LayersOption = None,
    tokens: TokensOption = None,
    source: SourceOption = None,
    corpus: CorpusOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute key statistics ahead of the edits that need them; needs no Redis. Stopped, it goes on when run again."""
    if (method is None) == (layers is None):
        raise typer.BadParameter("name either a --method, whose layers it then takes, or --layers")
    set_worker(model, dtype, device, data_dir)
    if corpus is not None:
        os.environ["PALIMPSEST_CORPUS"] = str(corpus)
        source = source or Source.CORPUS
    asked = {"--method": method, "--layers": layers, "--tokens": tokens, "--source": source and source.value}
    options = [f"{name}={value}" for name, value in asked.items() if value is not None] + ["--json"] * as_json
    os.execv(sys.executable, [sys.executable, "-m", "worker.stats", *options])  # noqa: S606 - there is no shell


def demo(
    model: ModelOption = MODEL,
    dtype: DtypeOption = Dtype.AUTO,
    device: DeviceOption = "auto",
    data_dir: DataOption = DATA,
) -> None:
    """Start everything, rewrite two facts over HTTP, compare before and after, roll back, stop."""
    from service.commands.demo import run  # noqa: PLC0415 - nor with what starts processes

    raise typer.Exit(run(["--model", model, "--dtype", dtype.value, "--device", device], data_dir, Console()))


@contextmanager
def _refusals_told_as(form: logs.Format) -> Iterator[None]:
    """Where a program reads the log, a refusal to start is a line of it; else it is the sentence that a person sees."""
    try:
        yield
    except UpError as error:
        if form == "text":
            raise
        _log.error("%s", error)
        raise typer.Exit(exit_of(error)) from error


def _require_redis(settings: Settings) -> str:
    if settings.redis_url is None:
        raise UpError("REDIS_URL is not set. Point it at your Redis, or let `palimpsest up` start everything.")
    return settings.redis_url
