"""The command that scores facts at a revision, or the edits in force there."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from service.client import Palimpsest
from service.commands import display
from service.commands.calls import URL, JsonOption, UrlOption, exit_unless, follow, print_json
from service.contracts.evaluations import Evaluation, EvaluationRequest
from service.contracts.jobs import JobStatus
from service.facts import decode, parse


def evaluate(
    revision: Annotated[str, typer.Option(help="base, head, or a revision such as r3.")] = "head",
    facts: Annotated[
        str,
        typer.Option(
            metavar="FILE|active",
            help="active: the facts of the edits in force there; or a file as `edit --batch` reads it, - being the "
            "standard input.",
        ),
    ] = "active",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the evaluation until it ends.")] = True,
    as_json: JsonOption = False,
    url: UrlOption = URL,
) -> None:
    """Score facts with the weights of a revision, and with the base's."""
    given = facts if facts == "active" else parse(decode(_read(facts)))
    request = EvaluationRequest.model_validate({"revision": revision, "facts": given})
    with Palimpsest(url) as client:
        final = client.evaluations.submit(request)
        if wait:
            follow(final, client.evaluations.events(final.id), "evaluation", client.server)
            final = client.evaluations.get(final.id)
    if as_json:
        print_json(final)
    else:
        _show(final, Console())
    exit_unless((JobStatus.COMPLETED,), final)


def _read(name: str) -> bytes:
    if name == "-":
        return typer.get_binary_stream("stdin").read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{name} cannot be read: {error.strerror}", param_hint="--facts") from error


def _show(evaluation: Evaluation, console: Console) -> None:
    result = evaluation.result
    if result is not None:
        console.print(display.evaluation_view(result))
    if result is not None and result.skipped:
        console.print(f"left out, since a later active edit overwrites them: {result.skipped}", highlight=False)
    scored = "" if evaluation.revision is None else f", at r{evaluation.revision}"
    console.print(f"evaluation {evaluation.id} is {evaluation.status}{scored}", highlight=False)
    if evaluation.notice:
        console.print(evaluation.notice, markup=False)
