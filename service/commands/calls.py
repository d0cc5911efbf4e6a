"""What the client commands share: where the server is, following a job to its end, and JSON for scripts."""

import json
from typing import Any

import typer
from pydantic import BaseModel
from rich.console import Console

from service.client import Palimpsest
from service.commands.display import JobProgressBar
from service.commands.exits import Exit
from service.contracts.jobs import Job, has_ended
from service.documents import Document
from service.failures import job_failure
from service.jobcalls import WELL, JobCalls


def connect(server: str) -> Palimpsest:
    """A client of the server. It sends nothing again: who sits before a terminal hears at once, and so do scripts."""
    try:
        return Palimpsest(server, retries=0)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--server") from error


def carry_out(calls: JobCalls[Any, Document, Any], request: BaseModel, label: str, *, wait: bool) -> Document:
    """Ask for a job and, if it is to be waited for, show how far it is until it ends; returns it whole."""
    job = calls.submit(request)
    return follow(calls, job, label) if wait else job


def follow(calls: JobCalls[Any, Document, Any], job: Document, label: str) -> Document:
    """Show how far a job is until it ends; returns it whole. Who interrupts only stops looking."""
    console = Console(stderr=True)
    try:
        with JobProgressBar(console, label) as bar:
            for current in calls.events(job):
                bar.show(current)
    except KeyboardInterrupt:
        console.print(
            f"The {job.noun} goes on without you. To see it again: palimpsest watch {job.id}; to stop it: "
            f"palimpsest cancel {job.id}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(Exit.INTERRUPTED) from None
    return calls.get(job)


def exit_unless_well(job: Job[Any]) -> None:
    """End the command with the job's problem if it has ended otherwise than well."""
    if has_ended(job.status) and job.status not in WELL:
        raise job_failure(job)


def say_how_it_stands(job: Job[Any], more: str, console: Console) -> None:
    """The last lines about a job: its state, what to know of it, and how to see it again."""
    console.print(f"{job.noun} {job.id} is {job.status}{more}", highlight=False, markup=False, soft_wrap=True)
    if job.notice:
        console.print(job.notice, markup=False)
    if not has_ended(job.status):
        console.print(f"watch it: palimpsest watch {job.id}", style="dim", highlight=False)


def named(text: str, option: str) -> tuple[str, Any]:
    """The name and the value of an option NAME=VALUE, the value as in JSON where it is some."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def print_json(answer: BaseModel) -> None:
    """For scripts."""
    typer.echo(answer.model_dump_json(indent=2))


def print_line(name: str, event: BaseModel) -> None:
    """One event of a stream as one line of JSON, for scripts."""
    typer.echo(json.dumps({"event": name, **event.model_dump(mode="json")}, ensure_ascii=False))
