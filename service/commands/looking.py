"""The commands that look at a server: how it stands, and which methods it has."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from service.commands import completing, display
from service.commands.calls import connect, print_json
from service.commands.options import JsonOption, ServerOption
from service.connection import SERVER
from service.contracts.model import MethodCard
from service.failures import NotFoundError

NEWEST = 5
"""Revisions and edits that are shown."""


def status(as_json: JsonOption = False, server: ServerOption = SERVER) -> None:
    """Show the model, its workers, and the newest revisions and edits. Exit code 3 if nobody serves the head."""
    with connect(server) as client:
        model = client.model()
        if as_json:
            print_json(model)
        else:
            revisions, edits = client.revisions.page(limit=NEWEST).revisions, client.edits.page(limit=NEWEST).edits
            Console().print(display.status_view(model, revisions, edits))
        client.ready()


def methods(
    name: Annotated[
        str | None,
        typer.Argument(metavar="METHOD", help="Show its hyperparameters.", autocompletion=completing.methods),
    ] = None,
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
) -> None:
    """List the methods that can write facts, or show the hyperparameters of one."""
    with connect(server) as client:
        listed = client.methods()
    if name is None:
        if as_json:
            print_json(listed)
        else:
            Console().print(_methods(listed.methods))
        return
    card = next((card for card in listed.methods if card.name == name), None)
    if card is None:
        names = ", ".join(card.name for card in listed.methods)
        raise NotFoundError(404, "not-found", f"There is no method {name[:100]}; take one of {names}.")
    if as_json:
        print_json(card)
    else:
        Console().print(_hyperparameters(card))


def _methods(cards: tuple[MethodCard, ...]) -> Table:
    table = Table("method", "a batch is written", "ready for this model", "what it is", "source", box=None)
    for card in cards:
        batch = "at once" if card.batch else "one by one"
        ready = "yes" if card.defaults is not None else "give --hparam"
        table.add_row(card.name, batch, ready, Text(card.title), Text(card.source, overflow="fold"))
    return table


def _hyperparameters(card: MethodCard) -> RenderableType:
    table = Table("hyperparameter", "value", "what may be given", box=None, title=f"{card.name}: {card.title}")
    defaults: Mapping[str, Any] = card.defaults or {}
    for name, schema in card.hparams_schema.get("properties", {}).items():
        value = defaults.get(name, schema.get("default", ""))
        table.add_row(name, Text(str(value)), Text(_kind(schema)))
    return table


def _kind(schema: Mapping[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    kinds = schema.get("anyOf", [schema])
    words = " or ".join(str(kind.get("type", kind.get("const", "any"))) for kind in kinds)
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    told = [f"{sign} {schema[key]}" for key, sign in bounds.items() if key in schema]
    note = schema.get("description", "")
    return "; ".join(part for part in (" ".join([words, *told]), note) if part)
