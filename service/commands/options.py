"""Options that several commands take: the server, the model, and where everything is kept."""

import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from service.commands import completing


class Dtype(StrEnum):
    """The element type that the weights are held in."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        raise typer.BadParameter("must be auto, cpu, cuda, or cuda:N")
    return value


def _model(value: str) -> str:
    """A local folder by its absolute path, so that every process and every run finds the same one."""
    folder = Path(value).expanduser()
    return str(folder.resolve()) if ("/" in value or value.startswith((".", "~"))) and folder.is_dir() else value


ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        envvar="PALIMPSEST_MODEL",
        callback=_model,
        help="smollm2-135m, a Hugging Face id, or a local folder.",
    ),
]
DtypeOption = Annotated[Dtype, typer.Option("--dtype", envvar="PALIMPSEST_DTYPE", help="Of the resident weights.")]
DeviceOption = Annotated[
    str, typer.Option("--device", envvar="PALIMPSEST_DEVICE", callback=_device, help="auto, cpu, cuda, or cuda:N.")
]
DataOption = Annotated[
    Path, typer.Option("--data-dir", envvar="PALIMPSEST_DATA_DIR", help="Where everything that must last is kept.")
]

ServerOption = Annotated[str, typer.Option("--server", envvar="PALIMPSEST_SERVER", help="Where the server listens.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON, for scripts.")]
JsonLinesOption = Annotated[bool, typer.Option("--json", help="Print one line of JSON for each, for scripts.")]
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow it until it ends.")]
RevisionOption = Annotated[
    str,
    typer.Option(metavar="NAME", help="base, head, or a revision such as r3.", autocompletion=completing.revisions),
]
HparamOption = Annotated[
    list[str] | None, typer.Option(metavar="NAME=VALUE", help="A hyperparameter, its value as in JSON; repeatable.")
]

MODEL, DATA = "smollm2-135m", Path(".palimpsest")


def set_worker(model: str, dtype: Dtype, device: str, data_dir: Path) -> None:
    """Hand the options on to a process of the worker's, through the environment."""
    os.environ.update(
        PALIMPSEST_MODEL=model,
        PALIMPSEST_DTYPE=dtype.value,
        PALIMPSEST_DEVICE=device,
        PALIMPSEST_DATA_DIR=str(data_dir),
    )
