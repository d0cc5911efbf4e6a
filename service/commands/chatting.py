"""The command that talks with the model before and after its edits, side by side."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from service.client import Palimpsest
from service.commands.calls import connect
from service.commands.display import describe_problem
from service.commands.options import JsonLinesOption, RevisionOption, ServerOption
from service.commands.talk import Hear, Saying, Talk
from service.connection import SERVER
from service.contracts.base import RevisionName
from service.contracts.generate import Side
from service.errors import ProblemError, invalid

REFRESHES_PER_SECOND = 12

HELP = "/at r3 lets r3 answer on the right, /at base r3 both; /reset forgets what was said; /quit, or Ctrl-D, ends."

SystemOption = Annotated[str | None, typer.Option(metavar="TEXT", help="What both sides are told first.")]


def chat(
    before: RevisionOption = "base",
    after: RevisionOption = "head",
    system: SystemOption = None,
    max_new_tokens: Annotated[int, typer.Option(help="Of one answer.")] = 256,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest tokens with so much probability.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Drawn where left out.")] = None,
    as_json: JsonLinesOption = False,
    server: ServerOption = SERVER,
) -> None:
    """Talk with the model before and after, side by side; what is said may also come through a pipe, line by line."""
    options = {"max_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p, "seed": seed}
    with connect(server) as client:
        card = client.model().card
        if not card.chat:
            detail = f"{card.name} has no chat template; ask it with: palimpsest generate PROMPT"
            raise ProblemError(422, "no-chat-template", detail)
        at = {Side.BEFORE: _revision(client, before), Side.AFTER: _revision(client, after)}
        talk = Talk(client, at, system, {name: value for name, value in options.items() if value is not None})
        if sys.stdin.isatty():
            _converse(talk, Console(), as_json=as_json)
        else:
            for line in filter(None, map(str.strip, sys.stdin)):
                if not _turn(talk, line, Console(), as_json=as_json):
                    return


def _converse(talk: Talk, console: Console, *, as_json: bool) -> None:
    """Whatever goes wrong is told, and the conversation goes on."""
    with suppress(ImportError):
        import readline  # noqa: F401, PLC0415 - lets `input` edit lines, and remember them
    errors = Console(stderr=True)
    _note(HELP)
    while True:
        try:
            line = input("" if as_json else "you> ").strip()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            if line and not _turn(talk, line, console, as_json=as_json):
                return
        except KeyboardInterrupt:
            errors.print("interrupted; this turn is forgotten", style="yellow")
        except ProblemError as error:
            for told in describe_problem(error.problem):
                errors.print(told, style="red", markup=False, highlight=False)


def _turn(talk: Talk, line: str, console: Console, *, as_json: bool) -> bool:
    """Do what a line says; False: end."""
    match line.split():
        case ["/quit"]:
            return False
        case ["/reset"]:
            talk.reset()
            _note("what was said is forgotten")
        case ["/at", *names] if len(names) in (1, len(Side)):
            sides = tuple(Side)[-len(names) :]
            talk.at |= {side: _revision(talk.client, name) for side, name in zip(sides, names, strict=True)}
            _note(", ".join(f"{side}: {_named(talk.at[side])}" for side in Side))
        case [word, *_] if word.startswith("/"):
            raise ProblemError(422, "unknown-command", f"{word[:100]} is no command here: {HELP}")
        case _ if as_json:
            _tell_json(talk, line)
        case _ if console.is_terminal:
            _tell_live(talk, line, console)
        case _:
            _tell(talk, line)
    return True


def _tell_json(talk: Talk, line: str) -> None:
    def hear(side: Side, text: str) -> None:
        typer.echo(json.dumps({"event": "piece", "side": side, "text": text}, ensure_ascii=False))

    for side, said in talk.say(line, hear).items():
        answer = {"revision": int(said.revision[1:]), "text": said.text, "finish_reason": said.finish_reason}
        typer.echo(json.dumps({"event": "answer", "side": side, **answer}, ensure_ascii=False))


def _tell(talk: Talk, line: str) -> None:
    typer.echo(f"you         {line}")
    for side, said in talk.say(line, lambda *_: None).items():
        typer.echo(f"{side:<6} {said.revision:<4} {' '.join(said.text.split())}")


def _tell_live(talk: Talk, line: str, console: Console) -> None:
    so_far = {side: Saying() for side in Side}
    with Live(console=console, transient=True, refresh_per_second=REFRESHES_PER_SECOND) as live:
        hear = _growing(so_far, talk.at, live)
        answers = talk.say(line, hear)
    console.print(_side_by_side(answers, talk.at))


def _growing(so_far: Mapping[Side, Saying], at: Mapping[Side, str | int], live: Live) -> Hear:
    def hear(side: Side, text: str) -> None:
        so_far[side].text += text
        live.update(_side_by_side(so_far, at))

    return hear


def _side_by_side(said: Mapping[Side, Saying], at: Mapping[Side, str | int]) -> Table:
    table = Table(expand=True, header_style="bold")
    for side in Side:
        asked = _named(at[side])
        known = said[side].revision
        table.add_column(f"{side}: {asked}" + (f" ({known})" if known and known != asked else ""), ratio=1)
    table.add_row(*_cells(said))
    return table


def _cells(said: Mapping[Side, Saying]) -> Iterator[Text]:
    for saying in said.values():
        ended = saying.finish_reason is not None
        text = saying.text.strip() or ("(says nothing)" if ended else "")
        cut = "\n(cut off here)" if saying.finish_reason == "length" else ""
        yield Text(text).append(cut, style="dim")


def _named(revision: str | int) -> str:
    return f"r{revision}" if isinstance(revision, int) else revision


def _note(text: str) -> None:
    Console(stderr=True).print(text, style="dim", highlight=False)


def _revision(client: Palimpsest, name: str) -> str | int:
    """base, head, or the number of a revision that there is."""
    try:
        revision: str | int = TypeAdapter(RevisionName).validate_python(name)
    except ValidationError:
        raise invalid("revision", f"{name[:100]} must be base, head, or a revision such as r3") from None
    return client.revisions.get(revision).revision if isinstance(revision, int) else revision
