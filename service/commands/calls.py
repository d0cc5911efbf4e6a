"""The client commands: each is one call of the API, shown well, or as JSON for scripts."""

import json
from collections.abc import Container, Iterator
from typing import Annotated, Any, BinaryIO

import typer
from pydantic import BaseModel
from rich.console import Console

from service.client import Palimpsest
from service.commands import display
from service.contracts.edits import BatchRequest, Edit, EditRequest, EditStatus
from service.contracts.jobs import Job, has_ended
from service.documents import Document
from service.errors import ProblemError
from service.facts import decode, parse

URL = "http://127.0.0.1:8000"

UrlOption = Annotated[str, typer.Option("--url", envvar="PALIMPSEST_URL", help="Where the server listens.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON, for scripts.")]


BatchOption = Annotated[
    typer.FileBinaryRead | None,
    typer.Option(
        metavar="FILE",
        help="Many facts instead of one, for one revision: JSON lines or a JSON array of objects with prompt, "
        "subject, target_new, ..., or of CounterFact records; - is the standard input.",
    ),
]
RequireOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Reject the edit unless it reaches this: efficacy, generality or locality (true, or a share from 0 to 1), "
        "or max_perplexity_ratio; repeatable.",
    ),
]


def edit(
    prompt: Annotated[
        str | None, typer.Argument(help='What the model continues: "The Eiffel Tower is located in the city of".')
    ] = None,
    subject: Annotated[str | None, typer.Option(help="Whom the fact is about, verbatim in the prompt.")] = None,
    target_new: Annotated[str | None, typer.Option(help="What the model should say.")] = None,
    target_true: Annotated[str | None, typer.Option(help="What it says now; adds scores.")] = None,
    paraphrase: Annotated[
        list[str] | None, typer.Option(metavar="PROMPT", help="A prompt that should follow the edit; repeatable.")
    ] = None,
    neighborhood: Annotated[
        list[str] | None, typer.Option(metavar="PROMPT", help="A prompt that must not change; repeatable.")
    ] = None,
    batch: BatchOption = None,
    method: Annotated[str, typer.Option(help="How the facts are written.")] = "rome",
    hparam: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A hyperparameter, its value as in JSON; repeatable.")
    ] = None,
    base_revision: Annotated[str | None, typer.Option(help="Refuse unless this is the head.")] = None,
    require: RequireOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compute and measure, and commit nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the edit until it ends.")] = True,
    as_json: JsonOption = False,
    url: UrlOption = URL,
) -> None:
    """Rewrite one fact in the model's weights, or a batch of facts (--batch)."""
    one = {
        "prompt": prompt,
        "subject": subject,
        "target_new": target_new,
        "target_true": target_true,
        "paraphrases": paraphrase,
        "neighborhood": neighborhood,
    }
    options = {
        "method": method,
        "hparams": dict(named(text, "--hparam") for text in hparam or ()),
        "base_revision": base_revision,
        "require": dict(named(text, "--require") for text in require) if require else None,
        "dry_run": dry_run,
    }
    request = _request({name: value for name, value in one.items() if value not in (None, [])}, batch, options)
    with Palimpsest(url) as client:
        final = client.edits.submit(request)
        if wait:
            label = "edit" if final.fact_count == 1 else f"edit of {final.fact_count} facts"
            final = follow(final, client.edits.events(final.id), label, client.server)
            if final.fact_count > len(final.request.facts):
                final = client.edits.get(final.id)
    if as_json:
        print_json(final)
    else:
        show_edit(final, Console())
    exit_unless((EditStatus.APPLIED, EditStatus.MEASURED), final)


def status(as_json: JsonOption = False, url: UrlOption = URL) -> None:
    """Show the model, its worker, and the newest revisions and edits."""
    with Palimpsest(url) as client:
        model = client.model()
        if as_json:
            print_json(model)
            return
        revisions, edits = client.revisions.page(limit=5).revisions, client.edits.page(limit=5).edits
    Console().print(display.status_view(model, revisions, edits))


def _request(one: dict[str, Any], batch: BinaryIO | None, options: dict[str, Any]) -> EditRequest | BatchRequest:
    if batch is None:
        missing = [name for name in ("prompt", "subject", "target_new") if name not in one]
        if missing:
            options_of = {"prompt": "PROMPT", "subject": "--subject", "target_new": "--target-new"}
            names = ", ".join(options_of[name] for name in missing)
            raise typer.BadParameter(f"missing {names}; give one fact, or many with --batch FILE")
        return EditRequest.model_validate({**one, **options})
    if one:
        raise typer.BadParameter("the facts come from the file, so give no fact beside it", param_hint="--batch")
    return BatchRequest.model_validate({"facts": parse(decode(batch.read())), **options})


def follow(job: Document, changes: Iterator[Document], label: str, url: str) -> Document:
    """Show how far a job is until it ends; returns it as it is then. Who interrupts only stops looking."""
    console = Console(stderr=True)
    noun = job.noun
    try:
        with display.JobProgressBar(console, label) as bar:
            for current in changes:
                job = current
                bar.show(current)
    except KeyboardInterrupt:
        console.print(
            f"The {noun} goes on without you. Its state: GET {url}/{noun}s/{job.id}; DELETE cancels it.",
            markup=False,
            soft_wrap=True,
        )
        raise typer.Exit(130) from None
    return job


def show_edit(edit: Edit, console: Console) -> None:
    """What an edit did, for people."""
    outcome = edit.outcome
    if outcome is not None and outcome.metrics is not None:
        texts = {generated.prompt: (generated.before, generated.after) for generated in outcome.generations}
        fact = edit.request.facts[0]
        console.print(display.fact_table(fact, outcome.metrics, texts, base="before", head="after"))
        console.print(display.score_lines(outcome))
    elif outcome is not None:
        console.print(display.batch_view(edit.request.facts, outcome))
    for warning in outcome.warnings if outcome else ():
        console.print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)
    made = f", and made revision r{edit.revision}" if edit.revision is not None else ""
    console.print(f"edit {edit.id} is {edit.status}{made}", highlight=False)
    if edit.notice:
        console.print(edit.notice, markup=False)


def exit_unless(good: Container[str], job: Job[Any]) -> None:
    """End the command with the job's problem if it has ended otherwise than well."""
    if has_ended(job.status) and job.status not in good:
        if job.problem is not None:
            raise ProblemError.of(job.problem)
        raise typer.Exit(1)


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
