"""The commands for API keys. They speak to Redis itself, so that the first key can be made before anybody has one."""

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.commands.options import DATA, DataOption, JsonLinesOption
from service.contracts.access import MAKE_ONE, ApiKey, Scope

if TYPE_CHECKING:
    from service.apikeys import ApiKeys

keys = typer.Typer(
    help="Make, list and revoke API keys; beside a running server or without one. As soon as there is a key, every "
    "request needs one.",
    no_args_is_help=True,
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Who will use it; the history names it.")]
ScopeOption = Annotated[
    Scope,
    typer.Option(
        help="read: ask and look; edit: change the model and queue jobs too; admin: download whole checkpoints too."
    ),
]


@keys.command()
def create(name: NameArgument, scope: ScopeOption = Scope.READ, data_dir: DataOption = DATA) -> None:
    """Make a key, and print it: the only time that anybody sees it."""
    with _open(data_dir) as kept:
        token = kept.create(name, scope)
    Console(stderr=True).print(
        f"Key {name} of scope {scope}; keep it safe, it is shown only now. "
        "Clients send it as Authorization: Bearer, or take it from PALIMPSEST_API_KEY.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    typer.echo(token)


@keys.command("list")
def list_keys(as_json: JsonLinesOption = False, data_dir: DataOption = DATA) -> None:
    """Show all keys that were ever made, without their secrets."""
    with _open(data_dir) as kept:
        found = kept.listed()
    if as_json:
        for key in found:
            typer.echo(key.model_dump_json())
    elif found:
        Console().print(_table(found))
    else:
        Console(stderr=True).print(f"There are no keys. Make one: {MAKE_ONE}", markup=False, highlight=False)


@keys.command()
def revoke(name: NameArgument, data_dir: DataOption = DATA) -> None:
    """Let a key open nothing from now on; what it has begun goes on."""
    with _open(data_dir) as kept:
        kept.revoke(name)
    Console(stderr=True).print(f"Key {name} is revoked.", markup=False, highlight=False)


def _open(data_dir: Path) -> "AbstractContextManager[ApiKeys]":
    from service.keyring import api_keys  # noqa: PLC0415 - the other commands start without Redis' client

    return api_keys(os.environ.get("REDIS_URL"), data_dir)


def _table(found: Iterable[ApiKey]) -> Table:
    table = Table("name", "scope", "made at", "last used", "revoked at", box=None)
    for key in found:
        times = (key.created_at, key.last_used, key.revoked_at)
        table.add_row(key.name, key.scope, *("" if at is None else f"{at.astimezone():%Y-%m-%d %H:%M}" for at in times))
    return table
