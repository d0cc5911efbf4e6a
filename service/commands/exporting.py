"""The command that brings a revision to disk as files that other programs load."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from service.commands import completing
from service.commands.calls import connect
from service.commands.options import ServerOption
from service.connection import SERVER
from service.contracts.exports import MOST_RANK, ExportKind


def export(
    revision: Annotated[
        str, typer.Argument(help="base, head, or a revision such as r3.", autocompletion=completing.revisions)
    ] = "head",
    adapter: Annotated[bool, typer.Option("--adapter", help="A LoRA adapter, as PEFT and vLLM load it.")] = False,
    checkpoint: Annotated[
        bool, typer.Option("--checkpoint", help="The whole model, as transformers loads it.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE|FOLDER", help="A new file named .tar, or a new folder.")
    ] = None,
    rank: Annotated[
        int | None, typer.Option(min=1, max=MOST_RANK, help="Of an adapter, at most; larger changes are cut.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Tell what was written as JSON, for scripts.")] = False,
    server: ServerOption = SERVER,
) -> None:
    """Download a revision as an adapter or as a whole model, checked by checksum."""
    if adapter == checkpoint:
        raise typer.BadParameter("name one of --adapter and --checkpoint")
    if checkpoint and rank is not None:
        raise typer.BadParameter("is an adapter's", param_hint="--rank")
    kind = ExportKind.ADAPTER if adapter else ExportKind.CHECKPOINT
    target = out or Path(f"{revision}-{kind}")
    with connect(server) as client:
        received = client.export(kind, target, revision, rank)
    if as_json:
        typer.echo(json.dumps({"kind": kind, "out": str(target), **asdict(received)}))
        return
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"r{received.revision} as {'an adapter' if adapter else 'a checkpoint'}: {target}")
    if received.error is not None:
        cut = f", and {received.error:.2%} of the change was cut off" if received.error else ", nothing cut off"
        console.print(f"rank {received.rank}{cut}")
