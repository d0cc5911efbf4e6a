"""The commands about jobs of any kind, by their ids: list them, show one, watch it, cancel it."""

import re
from collections.abc import Iterator
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.client import Palimpsest
from service.commands import completing
from service.commands.benching import show_benchmark, write_report
from service.commands.calls import connect, exit_unless_well, follow, print_json, print_line
from service.commands.editing import show_edit
from service.commands.evaluating import show_evaluation
from service.commands.history import revision_view
from service.commands.options import JsonLinesOption, JsonOption, ServerOption
from service.commands.tracing import draw, show_trace
from service.connection import SERVER
from service.contracts.benchmarks import Benchmark
from service.contracts.edits import Edit
from service.contracts.evaluations import Evaluation
from service.contracts.jobs import Job
from service.contracts.traces import Trace
from service.failures import NotFoundError
from service.jobcalls import LARGEST_PAGE, JobCalls

Calls = JobCalls[Any, Any, Any]


class Noun(StrEnum):
    """The kinds of jobs."""

    EDIT = "edit"
    EVALUATION = "evaluation"
    TRACE = "trace"
    BENCHMARK = "benchmark"


JobArgument = Annotated[
    str, typer.Argument(metavar="ID", help="A job's id: 16 hexadecimal digits.", autocompletion=completing.jobs)
]
AnyArgument = Annotated[
    str,
    typer.Argument(
        metavar="REVISION|ID",
        help="A revision such as r3, or the id of an edit or another job.",
        autocompletion=completing.revisions_and_jobs,
    ),
]
KindOption = Annotated[Noun | None, typer.Option("--kind", help="Only these; by default all.")]
StatusOption = Annotated[str | None, typer.Option("--status", help="Only those that are queued, failed, ...")]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="PATH", help="Write a benchmark's report into this folder, or draw a trace as .png or .svg."
    ),
]


def jobs(
    kind: KindOption = None,
    status: StatusOption = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    as_json: JsonLinesOption = False,
    server: ServerOption = SERVER,
) -> None:
    """List edits, evaluations, traces and benchmarks, newest first."""
    with connect(server) as client:
        kinds = [calls for noun, calls in _calls(client).items() if kind in (None, noun)]
        found = [job for calls in kinds for job in islice(calls.all(status, min(limit, LARGEST_PAGE)), limit)]
    newest = sorted(found, key=lambda job: job.created_at, reverse=True)[:limit]
    if as_json:
        for job in newest:
            print_line(job.noun, job)
    else:
        Console().print(_table(newest))


def show(name: AnyArgument, out: OutOption = None, as_json: JsonOption = False, server: ServerOption = SERVER) -> None:
    """Show a revision, or an edit or another job with all that it found."""
    with connect(server) as client:
        if re.fullmatch(r"r?[0-9]{1,15}", name):
            revision = client.revisions.get(name)
            if as_json:
                print_json(revision)
            else:
                Console().print(revision_view(revision))
            return
        _, job = _find(client, name)
        if out is not None:
            _write(client, job, out)
    if as_json:
        print_json(job)
    else:
        _show(job, out)


def watch(job: JobArgument, as_json: JsonLinesOption = False, server: ServerOption = SERVER) -> None:
    """Follow a job until it ends, and show what it found."""
    with connect(server) as client:
        calls, found = _find(client, job)
        if as_json:
            for found in calls.events(job):
                print_line(found.status, found)
        else:
            found = follow(calls, found, found.noun)
            _show(found, None)
    exit_unless_well(found)


def cancel(job: JobArgument, as_json: JsonOption = False, server: ServerOption = SERVER) -> None:
    """Cancel a job that waits or runs; what an edit has already committed stays."""
    with connect(server) as client:
        calls, _ = _find(client, job)
        cancelled = calls.cancel(job)
    if as_json:
        print_json(cancelled)
    else:
        asked = "is cancelled" if cancelled.status == "cancelled" else "was asked to stop"
        Console().print(f"{cancelled.noun} {cancelled.id} {asked}", highlight=False)


def _calls(client: Palimpsest) -> dict[Noun, Calls]:
    return {
        Noun.EDIT: client.edits,
        Noun.EVALUATION: client.evaluations,
        Noun.TRACE: client.traces,
        Noun.BENCHMARK: client.benchmarks,
    }


def _find(client: Palimpsest, job_id: str) -> tuple[Calls, Any]:
    """The kind that a job is of, and the job: ids do not tell, and are never the same by chance."""
    for calls in _calls(client).values():
        try:
            return calls, calls.get(job_id)
        except NotFoundError:
            continue
    raise NotFoundError(404, "not-found", f"There is no job {job_id[:100]}; list them with: palimpsest jobs")


def _write(client: Palimpsest, job: Job[Any], out: Path) -> None:
    match job:
        case Benchmark():
            write_report(client, job, out)
        case Trace():
            draw(client, job, out)
        case _:
            raise typer.BadParameter(f"nothing of an {job.noun} can be written; take --json", param_hint="--out")


def _show(job: Job[Any], out: Path | None) -> None:
    console = Console()
    match job:
        case Edit():
            show_edit(job, console)
        case Evaluation():
            show_evaluation(job, console)
        case Trace():
            show_trace(job, out, console)
        case Benchmark():
            show_benchmark(job, out, console)


def _table(found: list[Any]) -> Table:
    table = Table("id", "kind", "status", "asked at", "what", box=None)
    for column in table.columns[:-1]:
        column.no_wrap = True
    for job in found:
        asked = job.created_at.astimezone().strftime("%m-%d %H:%M")
        table.add_row(job.id, job.noun, job.status, asked, Text("; ".join(_about(job))))
    return table


def _about(job: Any) -> Iterator[str]:
    match job:
        case Edit():
            first = job.request.facts[0]
            yield f"{first.prompt} → {first.target_new}"
            if job.fact_count > 1:
                yield f"and {job.fact_count - 1} more"
        case Evaluation():
            yield "the edits in force" if job.request.facts == "active" else f"{job.fact_count} facts"
            yield f"at {job.request.revision}"
        case Trace():
            yield job.request.prompt
        case Benchmark():
            yield f"{', '.join(choice.method for choice in job.request.methods)} on {job.request.dataset}"
