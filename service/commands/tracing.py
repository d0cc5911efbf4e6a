"""The command that traces where an answer comes from."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from service.client import Palimpsest
from service.commands.calls import carry_out, connect, exit_unless_well, print_json, say_how_it_stands
from service.commands.effects import trace_view
from service.commands.options import JsonOption, RevisionOption, ServerOption, WaitOption
from service.commands.reading import read_facts, tell_left_out
from service.connection import SERVER
from service.contracts.traces import MOST_SUBJECTS, Kind, Trace, Traced, TraceRequest
from service.datasets.sources import SHIPPED

FORMS = (".png", ".svg")

KindOption = Annotated[
    list[Kind] | None, typer.Option("--kind", help="Which states are restored; repeatable, all by default.")
]
OutOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Draw it too, as .png or .svg, all kinds side by side.")
]
NoiseOption = Annotated[float, typer.Option(help="In standard deviations of the subjects' embeddings.")]
NoiseFromOption = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE", help="The data set whose subjects those are, such as the paper's known_1000.json."
    ),
]
WindowOption = Annotated[
    int | None, typer.Option(help="Layers of MLP or attention restored at once; by default 10 for 48 layers.")
]


def trace(
    prompt: Annotated[
        str, typer.Argument(help='What the model continues: "The Eiffel Tower is located in the city of".')
    ],
    subject: Annotated[str, typer.Option(help="Whom it is about, verbatim in the prompt.")],
    target: Annotated[str | None, typer.Option(help="The answer; by default what the model says.")] = None,
    kind: KindOption = None,
    tokens: Annotated[Traced, typer.Option(help="Those at which states are restored.")] = Traced.ALL,
    samples: Annotated[int, typer.Option(help="Runs with different noise.")] = 10,
    noise: NoiseOption = 3.0,
    noise_from: NoiseFromOption = SHIPPED,
    window: WindowOption = None,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    revision: RevisionOption = "head",
    out: OutOption = None,
    wait: WaitOption = True,
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
) -> None:
    """Find the states that an answer depends on: hide the subject with noise, and restore them one at a time."""
    if out is not None and (out.suffix not in FORMS or not wait):
        raise typer.BadParameter(
            "must end with .png or .svg, and is drawn once the trace has ended", param_hint="--out"
        )
    asked: dict[str, Any] = {"prompt": prompt, "subject": subject, "target": target, "tokens": tokens, "noise": noise}
    asked |= {"samples": samples, "window": window, "seed": seed, "revision": revision}
    if noise_from != SHIPPED:
        asked["noise_subjects"] = _subjects(noise_from)
    request = TraceRequest.model_validate({**asked, "kinds": kind or tuple(Kind)})
    with connect(server) as client:
        found = carry_out(client.traces, request, "trace", wait=wait)
        if out is not None:
            draw(client, found, out)
    if as_json:
        print_json(found)
    else:
        show_trace(found, out, Console())
    exit_unless_well(found)


def _subjects(source: str) -> tuple[str, ...]:
    """Those of a data set, each once; the first of them, if more than can be sent at once, which is told."""
    found = tuple(dict.fromkeys(fact.subject for fact in read_facts(source, "--noise-from")))
    if len(found) > MOST_SUBJECTS:
        tell_left_out([f"the last {len(found) - MOST_SUBJECTS} subjects: no more can be sent at once"])
    return found[:MOST_SUBJECTS]


def draw(client: Palimpsest, trace: Trace, out: Path) -> None:
    """Write the picture of a trace, if it found anything."""
    if out.suffix not in FORMS:
        raise typer.BadParameter("must end with .png or .svg", param_hint="--out")
    if trace.result is None:
        return
    try:
        out.write_bytes(client.traces.picture(trace, out.suffix[1:]))
    except OSError as error:
        raise typer.BadParameter(f"{out} cannot be written: {error.strerror}", param_hint="--out") from error


def show_trace(trace: Trace, out: Path | None, console: Console) -> None:
    """What a trace found, for people; `out` is where it was drawn."""
    if trace.result is None:
        say_how_it_stands(trace, "", console)
        return
    console.print(trace_view(trace.result), soft_wrap=True)
    say_how_it_stands(trace, f", at r{trace.revision}" + (f", drawn in {out}" if out else ""), console)
