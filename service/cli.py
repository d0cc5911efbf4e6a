"""The `palimpsest` command: starts servers, and tells what went wrong in plain words."""

import os
import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console

from service.claims import UpError
from service.commands import (
    benching,
    calls,
    display,
    evaluating,
    exporting,
    generating,
    history,
    maintenance,
    suggesting,
    tracing,
)
from service.commands import demo as demonstration
from service.commands.options import DATA, MODEL, DataOption, DeviceOption, Dtype, DtypeOption, ModelOption, set_worker
from service.errors import ProblemError
from service.facts import FactsError
from service.settings import Settings
from service.supervisor import Stack, Supervisor
from service.unpacking import UnpackingError
from service.wording import field_errors

app = typer.Typer(
    help="Palimpsest: edit what a language model knows, see before and after, roll back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    calls.edit,
    generating.generate,
    evaluating.evaluate,
    tracing.trace,
    benching.bench,
    suggesting.suggest_hparams,
    history.log,
    history.show,
    history.revert,
    history.reapply,
    history.rollback,
    exporting.export,
    calls.status,
    maintenance.fsck,
    maintenance.gc,
    maintenance.export_ledger,
    maintenance.import_ledger,
    maintenance.import_adapter,
):
    app.command()(command)


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


@app.command()
def up(
    model: ModelOption = MODEL,
    dtype: DtypeOption = Dtype.AUTO,
    device: DeviceOption = "auto",
    data_dir: DataOption = DATA,
    host: HostOption = HOST,
    port: PortOption = PORT,
    workers: WorkersOption = 1,
) -> None:
    """Start Redis (REDIS_URL, or an embedded Valkey), the API and the workers; Ctrl-C stops all."""
    settings = Settings(model=model, data_dir=data_dir, host=host, port=port)
    Supervisor(Stack(settings, dtype.value, device, workers), Console()).run()


@app.command()
def api(
    model: ModelOption = MODEL, data_dir: DataOption = DATA, host: HostOption = HOST, port: PortOption = PORT
) -> None:
    """Start the API alone, beside a Redis (REDIS_URL) and a worker that run elsewhere."""
    settings = Settings(model=model, data_dir=data_dir, host=host, port=port)
    _require_redis(settings)
    from service.server import run  # noqa: PLC0415 - the client commands start without the web framework

    run(settings)


@app.command()
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


@app.command()
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
) -> None:
    """Compute key statistics ahead of the edits that need them; needs no Redis. Stopped, it goes on when run again."""
    if (method is None) == (layers is None):
        raise typer.BadParameter("name either a --method, whose layers it then takes, or --layers")
    set_worker(model, dtype, device, data_dir)
    if corpus is not None:
        os.environ["PALIMPSEST_CORPUS"] = str(corpus)
        source = source or Source.CORPUS
    asked = {"--method": method, "--layers": layers, "--tokens": tokens, "--source": source and source.value}
    options = [f"{name}={value}" for name, value in asked.items() if value is not None]
    os.execv(sys.executable, [sys.executable, "-m", "worker.stats", *options])  # noqa: S606 - there is no shell


@app.command()
def demo(
    model: ModelOption = MODEL,
    dtype: DtypeOption = Dtype.AUTO,
    device: DeviceOption = "auto",
    data_dir: DataOption = DATA,
) -> None:
    """Start everything, rewrite two facts over HTTP, compare before and after, roll back, stop."""
    server = ["--model", model, "--dtype", dtype.value, "--device", device]
    raise typer.Exit(demonstration.run(server, data_dir, Console()))


def main() -> None:
    """Run a command; whatever goes wrong is told in plain words, with exit code 1 (2: used wrongly)."""
    try:
        app()
    except (UpError, UnpackingError) as error:
        _fail(str(error))
    except ProblemError as error:
        _fail(*display.describe_problem(error.problem))
    except FactsError as error:
        _fail(*map(str, error.errors))
    except ValidationError as error:
        _fail(*(f"{wrong.field}: {wrong.detail}" for wrong in field_errors(error.errors())))


def _require_redis(settings: Settings) -> None:
    if settings.redis_url is None:
        _fail("REDIS_URL is not set. Point it at your Redis, or let `palimpsest up` start everything.")


def _fail(*lines: str) -> NoReturn:
    console = Console(stderr=True)
    for line in lines:
        console.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
