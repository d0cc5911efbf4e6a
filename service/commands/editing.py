"""The commands that rewrite facts: one, or all of a file."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console

from service.commands import completing, display
from service.commands.calls import carry_out, connect, exit_unless_well, named, print_json, say_how_it_stands
from service.commands.options import HparamOption, JsonOption, ServerOption, WaitOption
from service.connection import SERVER
from service.contracts.edits import BatchRequest, Edit, EditRequest, EditStatus
from service.facts import decode, parse

MethodOption = Annotated[
    str, typer.Option(help="How the facts are written; see `methods`.", autocompletion=completing.methods)
]
BaseRevisionOption = Annotated[str | None, typer.Option(metavar="NAME", help="Refuse unless this is the head.")]
RequireOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Reject the edit unless it reaches this: efficacy, generality or locality (true, or a share from 0 to 1), "
        "or max_perplexity_ratio; repeatable.",
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Compute and measure, and commit nothing.")]


def edit(
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="[PROMPT]", help='What the model continues: "The Eiffel Tower is located in the city of".'
        ),
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
    facts: Annotated[
        typer.FileBinaryRead | None,
        typer.Option("--batch", metavar="FILE", help="All facts of a file instead of one; see `batch`."),
    ] = None,
    method: MethodOption = "rome",
    hparam: HparamOption = None,
    base_revision: BaseRevisionOption = None,
    require: RequireOption = None,
    dry_run: DryRunOption = False,
    wait: WaitOption = True,
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
) -> None:
    """Rewrite one fact in the model's weights, or all facts of a file."""
    needed = {"PROMPT": prompt, "--subject": subject, "--target-new": target_new}
    allowed = {"--target-true": target_true, "--paraphrase": paraphrase, "--neighborhood": neighborhood}
    if facts is not None:
        _refuse([name for name, value in {**needed, **allowed}.items() if value], "is in the file that --batch names")
        batch(facts, method, hparam, base_revision, require, dry_run, wait, as_json, server)
        return
    _refuse([name for name, value in needed.items() if value is None], "is missing; or name a file with --batch")
    fact = {"prompt": prompt, "subject": subject, "target_new": target_new, "target_true": target_true}
    prompts = {"paraphrases": paraphrase or (), "neighborhood": neighborhood or ()}
    options = _options(method, hparam, base_revision, require, dry_run=dry_run)
    _write(EditRequest.model_validate({**fact, **prompts, **options}), server, wait=wait, as_json=as_json)


def batch(
    file: Annotated[
        typer.FileBinaryRead,
        typer.Argument(
            metavar="FILE",
            help="JSON lines or a JSON array, of objects with prompt, subject, target_new, ..., or of CounterFact "
            "records; - is the standard input.",
        ),
    ],
    method: MethodOption = "rome",
    hparam: HparamOption = None,
    base_revision: BaseRevisionOption = None,
    require: RequireOption = None,
    dry_run: DryRunOption = False,
    wait: WaitOption = True,
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
) -> None:
    """Rewrite all facts of a file, as one revision: all of them or none."""
    facts = parse(decode(file.read()))
    options = _options(method, hparam, base_revision, require, dry_run=dry_run)
    _write(BatchRequest.model_validate({"facts": facts, **options}), server, wait=wait, as_json=as_json)


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
    say_how_it_stands(edit, f", and made revision r{edit.revision}" if edit.revision is not None else "", console)
    if edit.status is EditStatus.APPLIED:
        console.print(f"undo it: palimpsest revert {edit.id}", style="dim", highlight=False)


def _refuse(names: Sequence[str], why: str) -> None:
    """Refuse the first of these arguments, if there is one."""
    if names:
        raise typer.BadParameter(why, param_hint=names[0])


def _options(
    method: str, hparam: list[str] | None, base_revision: str | None, require: list[str] | None, *, dry_run: bool
) -> dict[str, Any]:
    return {
        "method": method,
        "hparams": dict(named(text, "--hparam") for text in hparam or ()),
        "base_revision": base_revision,
        "require": dict(named(text, "--require") for text in require) if require else None,
        "dry_run": dry_run,
    }


def _write(request: EditRequest | BatchRequest, server: str, *, wait: bool, as_json: bool) -> None:
    facts = len(request.facts)
    with connect(server) as client:
        edit = carry_out(client.edits, request, "edit" if facts == 1 else f"edit of {facts} facts", wait=wait)
    if as_json:
        print_json(edit)
    else:
        show_edit(edit, Console())
    exit_unless_well(edit)
