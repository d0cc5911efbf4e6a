"""The `palimpsest` command: which commands there are, and what went wrong in plain words."""

import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from service.claims import UpError
from service.commands import (
    benching,
    chatting,
    display,
    editing,
    evaluating,
    exporting,
    generating,
    history,
    jobs,
    keys,
    looking,
    maintenance,
    starting,
    suggesting,
    tracing,
)
from service.commands.exits import exit_of
from service.errors import ProblemError
from service.facts import FactsError
from service.unpacking import UnpackingError
from service.wording import field_errors

COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Edit, and compare before with after": (
        editing.edit,
        editing.batch,
        generating.generate,
        chatting.chat,
        evaluating.evaluate,
        tracing.trace,
        benching.bench,
        suggesting.suggest_hparams,
    ),
    "History": (history.log, jobs.show, history.revert, history.reapply, history.rollback, exporting.export),
    "Jobs and server": (jobs.jobs, jobs.watch, jobs.cancel, looking.status, looking.methods),
    "On this machine": (starting.up, starting.api, starting.worker, starting.demo, starting.stats),
    "A ledger at rest": (
        maintenance.fsck,
        maintenance.gc,
        maintenance.export_ledger,
        maintenance.import_ledger,
        maintenance.import_adapter,
    ),
}

app = typer.Typer(
    help="Palimpsest: edit what a language model knows, see before and after, roll back.",
    epilog="Commands that ask a server take --server or PALIMPSEST_SERVER, and send PALIMPSEST_API_KEY if it is set. "
    "Exit codes: 0 done; 1 failed or rejected; 2 used wrongly; 3 no server, or not ready; 4 not found; 5 conflict; "
    "6 no API key, or one that does not allow it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(keys.keys, name="keys", rich_help_panel="On this machine")


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"palimpsest {version('palimpsest')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What stands before a command."""


def main() -> None:
    """Run a command; whatever goes wrong is told in plain words, with an exit code of service/commands/exits.py."""
    try:
        app()
    except (ProblemError, FactsError, ValidationError, UpError, UnpackingError) as error:
        console = Console(stderr=True)
        for line in _told(error):
            console.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(exit_of(error))


def _told(error: Exception) -> Iterable[str]:
    match error:
        case ProblemError():
            return display.describe_problem(error.problem)
        case FactsError():
            return map(str, error.errors)
        case ValidationError():
            return (f"{wrong.field}: {wrong.detail}" for wrong in field_errors(error.errors()))
        case _:
            return [str(error)]


if __name__ == "__main__":
    main()
