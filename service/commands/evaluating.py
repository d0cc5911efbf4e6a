"""The command that scores facts at a revision, or the edits in force there."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from service.commands import display
from service.commands.calls import carry_out, connect, exit_unless_well, print_json, say_how_it_stands
from service.commands.options import JsonOption, RevisionOption, ServerOption, WaitOption
from service.connection import SERVER
from service.contracts.evaluations import Evaluation, EvaluationRequest
from service.facts import decode, parse


def evaluate(
    revision: RevisionOption = "head",
    facts: Annotated[
        str,
        typer.Option(
            metavar="FILE|active",
            help="active: the facts of the edits in force there; or a file as `batch` reads it, - being the standard "
            "input.",
        ),
    ] = "active",
    wait: WaitOption = True,
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
) -> None:
    """Score facts with the weights of a revision, and with the base's."""
    given = facts if facts == "active" else parse(decode(_read(facts)))
    request = EvaluationRequest.model_validate({"revision": revision, "facts": given})
    with connect(server) as client:
        evaluation = carry_out(client.evaluations, request, "evaluation", wait=wait)
    if as_json:
        print_json(evaluation)
    else:
        show_evaluation(evaluation, Console())
    exit_unless_well(evaluation)


def show_evaluation(evaluation: Evaluation, console: Console) -> None:
    """What an evaluation found, for people."""
    result = evaluation.result
    if result is not None:
        console.print(display.evaluation_view(result))
    if result is not None and result.skipped:
        console.print(f"left out, since a later active edit overwrites them: {result.skipped}", highlight=False)
    say_how_it_stands(evaluation, "" if evaluation.revision is None else f", at r{evaluation.revision}", console)


def _read(name: str) -> bytes:
    if name == "-":
        return typer.get_binary_stream("stdin").read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{name} cannot be read: {error.strerror}", param_hint="--facts") from error
