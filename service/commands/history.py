"""The commands about revisions: the history, and what makes a new one without an edit."""

from collections.abc import Iterable
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.commands import completing
from service.commands.calls import connect, print_json
from service.commands.options import JsonOption, ServerOption
from service.connection import SERVER
from service.contracts.revisions import Revision, RollbackRequest
from service.contracts.scores import Drift

EditArgument = Annotated[
    str, typer.Argument(metavar="EDIT", help="An edit's id: 16 hexadecimal digits.", autocompletion=completing.edits)
]


def log(
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    before: Annotated[int | None, typer.Option(min=1, help="Only revisions below this number.")] = None,
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
) -> None:
    """Show the revisions, newest first: what made each, how many edits are in force, how far it has drifted."""
    with connect(server) as client:
        page = client.revisions.page(limit=limit, before=before)
    if as_json:
        print_json(page)
        return
    console = Console()
    console.print(_history(page.revisions))
    if page.next is not None:
        console.print(f"older ones: palimpsest log --before {page.next}", style="dim", highlight=False)


def rollback(
    to: Annotated[
        str,
        typer.Argument(
            metavar="REVISION",
            help="Whose edits should be in force again, such as r3; r0 is the base.",
            autocompletion=completing.revisions,
        ),
    ],
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
) -> None:
    """Make a new revision that equals an old one."""
    request = RollbackRequest.model_validate({"to": to})
    with connect(server) as client:
        revision = client.rollback(request.to)
    if as_json:
        print_json(revision)
    else:
        _say(revision, f", as in r{request.to}")


def revert(edit: EditArgument, as_json: JsonOption = False, server: ServerOption = SERVER) -> None:
    """Make a new revision without one edit; all later ones stay."""
    with connect(server) as client:
        answer = client.revert(edit)
    if as_json:
        print_json(answer)
        return
    _say(answer.revision, f", without {edit}")
    Console().print(answer.notice, style="yellow" if answer.computed_with_it else "", markup=False, soft_wrap=True)


def reapply(edit: EditArgument, as_json: JsonOption = False, server: ServerOption = SERVER) -> None:
    """Make a new revision with a reverted edit in force again; nothing is computed anew."""
    with connect(server) as client:
        revision = client.reapply(edit)
    if as_json:
        print_json(revision)
    else:
        _say(revision, f", {edit} among them")


def _say(revision: Revision, more: str) -> None:
    console = Console()
    console.print(f"r{revision.revision} is the head: {_in_force(revision)} in force{more}", highlight=False)
    console.print(f"checksum {revision.checksum}", highlight=False)


def _history(revisions: Iterable[Revision]) -> Table:
    table = Table("rev", "made by", "edits", "change", "perpl.", "KL", "made at", "key", box=None)
    for column in table.columns:
        column.no_wrap = True
    for revision in revisions:
        drift = _drift(revision.drift)
        count = str(revision.active_count)
        at = _at(revision, "%m-%d %H:%M")
        table.add_row(f"r{revision.revision}", _made_by(revision), count, *drift, at, revision.by or "")
    return table


def revision_view(revision: Revision) -> Table:
    """One revision, for people."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_row("revision", f"r{revision.revision}")
    table.add_row("made by", _made_by(revision))
    table.add_row("parent", "none" if revision.parent is None else f"r{revision.parent}")
    table.add_row("made at", _at(revision))
    for name, value in (("key", revision.by), ("request", revision.request_id)):
        if value is not None:
            table.add_row(name, value)
    table.add_row("checksum", revision.checksum)
    if revision.drift is not None:
        norms = ", ".join(f"layer {layer}: {norm:.2%}" for layer, norm in revision.drift.norms.items()) or "none"
        table.add_row("change of the weights", norms)
        table.add_row("perplexity", f"{revision.drift.perplexity_ratio:.3f} times the base's")
        table.add_row("KL to the base", f"{revision.drift.kl:.4f} nats a token")
    table.add_row("in force", Text("\n".join(revision.active) or "no edit"))
    return table


def _made_by(revision: Revision) -> str:
    what = revision.edit if revision.to is None else f"to r{revision.to}"
    return revision.kind if what is None else f"{revision.kind} {what}"


def _drift(drift: Drift | None) -> tuple[str, str, str]:
    if drift is None:
        return "", "", ""
    largest = max(drift.norms.values(), default=0.0)
    return f"{largest:.2%}", f"x {drift.perplexity_ratio:.3f}", f"{drift.kl:.4f}"


def _in_force(revision: Revision) -> str:
    return "1 edit" if revision.active_count == 1 else f"{revision.active_count} edits"


def _at(revision: Revision, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    return revision.created_at.astimezone().strftime(form)
