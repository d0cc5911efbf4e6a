"""The command that traces where an answer comes from."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from service.client import Palimpsest
from service.commands.calls import URL, JsonOption, UrlOption, exit_unless, follow, print_json
from service.commands.effects import trace_view
from service.contracts.jobs import JobStatus
from service.contracts.traces import Kind, Trace, Traced, TraceRequest

FORMS = (".png", ".svg")

KindOption = Annotated[
    list[Kind] | None, typer.Option("--kind", help="Which states are restored; repeatable, all by default.")
]
OutOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Draw it too, as .png or .svg, all kinds side by side.")
]
NoiseOption = Annotated[float, typer.Option(help="In standard deviations of the subjects' embeddings.")]
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
    window: WindowOption = None,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    revision: Annotated[str, typer.Option(help="base, head, or a revision such as r3.")] = "head",
    out: OutOption = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the trace until it ends.")] = True,
    as_json: JsonOption = False,
    url: UrlOption = URL,
) -> None:
    """Find the states that an answer depends on: hide the subject with noise, and restore them one at a time."""
    if out is not None and (out.suffix not in FORMS or not wait):
        raise typer.BadParameter(
            "must end with .png or .svg, and is drawn once the trace has ended", param_hint="--out"
        )
    asked: dict[str, Any] = {"prompt": prompt, "subject": subject, "target": target, "tokens": tokens, "noise": noise}
    asked |= {"samples": samples, "window": window, "seed": seed, "revision": revision}
    request = TraceRequest.model_validate({**asked, "kinds": kind or tuple(Kind)})
    with Palimpsest(url) as client:
        final = client.traces.submit(request)
        if wait:
            follow(final, client.traces.events(final.id), "trace", client.server)
            final = client.traces.get(final.id)
        if out is not None and final.result is not None:
            _write(out, client.traces.picture(final.id, out.suffix[1:]))
    if as_json:
        print_json(final)
    else:
        _show(final, out, Console())
    exit_unless((JobStatus.COMPLETED,), final)


def _write(out: Path, picture: bytes) -> None:
    try:
        out.write_bytes(picture)
    except OSError as error:
        raise typer.BadParameter(f"{out} cannot be written: {error.strerror}", param_hint="--out") from error


def _show(trace: Trace, out: Path | None, console: Console) -> None:
    if trace.result is not None:
        console.print(trace_view(trace.result), soft_wrap=True)
        drawn = "" if out is None else f", drawn in {out}"
        console.print(f"trace {trace.id} is {trace.status}, at r{trace.revision}{drawn}", highlight=False, markup=False)
    else:
        console.print(f"trace {trace.id} is {trace.status}", highlight=False)
    if trace.notice:
        console.print(trace.notice, markup=False)
