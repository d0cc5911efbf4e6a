"""The command that continues prompts under two revisions, whole or as the tokens come."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live

from service.commands import sides
from service.commands.calls import connect, print_json, print_line
from service.commands.options import JsonOption, RevisionOption, ServerOption
from service.connection import SERVER
from service.contracts.generate import GenerateAnswer, GeneratedPiece, GenerateRequest, Priority

Events = Iterator[GeneratedPiece | GenerateAnswer]

REFRESHES_PER_SECOND = 12

StopOption = Annotated[
    list[str] | None, typer.Option(metavar="TEXT", help="End the text before this; repeatable, white space counts.")
]
TopLogprobsOption = Annotated[int, typer.Option(help="Tell so many of the likeliest of each token; with --json.")]
SystemOption = Annotated[str | None, typer.Option(metavar="TEXT", help="What the model is told first; means --chat.")]
ChatOption = Annotated[bool, typer.Option("--chat", help="Put the prompt into the model's chat template.")]
StreamOption = Annotated[bool, typer.Option("--stream", help="Show the tokens as they come; with --json as lines.")]
TimeoutOption = Annotated[float | None, typer.Option(help="Seconds; at most, and by default, the server's.")]
BackgroundOption = Annotated[bool, typer.Option("--background", help="Let all others go first.")]


def generate(
    prompt: Annotated[list[str], typer.Argument(metavar="PROMPT", help="One or more prompts.")],
    before: RevisionOption = "base",
    after: RevisionOption = "head",
    max_new_tokens: Annotated[int, typer.Option(help="Of one continuation.")] = 32,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest tokens with so much probability.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Draw from so many of the likeliest tokens.")] = None,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1 disfavours tokens already in the text.")] = 1.0,
    stop: StopOption = None,
    seed: Annotated[int | None, typer.Option(help="Drawn where left out.")] = None,
    n: Annotated[int, typer.Option("--n", help="Alternatives of each prompt.")] = 1,
    top_logprobs: TopLogprobsOption = 0,
    target_new: Annotated[str | None, typer.Option(help="Tell how likely this is on both sides.")] = None,
    target_true: Annotated[str | None, typer.Option(help="Tell how likely this is on both sides.")] = None,
    chat: ChatOption = False,
    system: SystemOption = None,
    stream: StreamOption = False,
    timeout: TimeoutOption = None,
    min_revision: Annotated[str | None, typer.Option(help="Wait for a worker that has this revision.")] = None,
    background: BackgroundOption = False,
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
) -> None:
    """Continue prompts under two revisions, side by side."""
    if top_logprobs and not as_json:
        raise typer.BadParameter("are shown with --json only", param_hint="--top-logprobs")
    request = GenerateRequest.model_validate(
        {
            **_asked(prompt, system, chat or system is not None),
            "before": before,
            "after": after,
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "repetition_penalty": repetition_penalty,
            "stop": stop or (),
            "seed": seed,
            "n": n,
            "top_logprobs": top_logprobs,
            "target_new": target_new,
            "target_true": target_true,
            "stream": stream,
            "priority": Priority.BACKGROUND if background else Priority.INTERACTIVE,
            "timeout": timeout,
            "min_revision": min_revision,
        }
    )
    with connect(server) as client:
        if not stream:
            _show(client.generate(request), request, as_json)
            return
        with closing(client.stream(request)) as events:
            _follow(events, request, as_json)


def _asked(prompts: list[str], system: str | None, chat: bool) -> dict[str, Any]:
    if not chat:
        return {"prompt": prompts}
    if len(prompts) > 1:
        raise typer.BadParameter("give one prompt, which is the user's message", param_hint="--chat")
    told = [] if system is None else [{"role": "system", "content": system}]
    return {"messages": [*told, {"role": "user", "content": prompts[0]}]}


def _show(answer: GenerateAnswer, request: GenerateRequest, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        Console().print(sides.comparison_table(answer, request))


def _follow(events: Events, request: GenerateRequest, as_json: bool) -> None:
    console = Console()
    if as_json:
        print_line("done", _heard(events, lambda piece: print_line("piece", piece)))
    elif console.is_terminal:
        _show(_watched(events, request, console), request, as_json)
    else:
        _show(_heard(events, lambda piece: typer.echo(sides.piece_line(piece))), request, as_json)


def _watched(events: Events, request: GenerateRequest, console: Console) -> GenerateAnswer:
    """The answer, after both sides were shown as they grew."""
    transcript = sides.Transcript(request)
    with Live(console=console, transient=True, refresh_per_second=REFRESHES_PER_SECOND) as live:

        def hear(piece: GeneratedPiece) -> None:
            transcript.hear(piece)
            live.update(transcript.table())

        return _heard(events, hear)


def _heard(events: Events, hear: Callable[[GeneratedPiece], None]) -> GenerateAnswer:
    """The answer, which is the last event; `hear` gets those before it."""
    for event in events:
        if isinstance(event, GenerateAnswer):
            return event
        hear(event)
    raise AssertionError("a stream ends with an answer or an error")
