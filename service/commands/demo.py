"""`palimpsest demo`: the whole main job on a real model, done over HTTP as any client would."""

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from service.children import Child
from service.claims import claim_port
from service.client import Palimpsest
from service.commands import display
from service.contracts.edits import Edit, EditRequest, EditStatus, Fact, Outcome
from service.contracts.generate import GenerateRequest
from service.errors import ProblemError
from service.failures import UnreachableError

START_SECONDS = 600.0
"""How long the model may take to be ready: the first time, it may have to be downloaded."""

STOP_SECONDS = 40.0
NEW_TOKENS = 10

FACTS = (
    EditRequest(
        prompt="Question: What sport does Lionel Messi play? Answer:",
        subject="Lionel Messi",
        target_new="basketball",
        target_true="football",
        paraphrases=("The sport that Lionel Messi plays is",),
        neighborhood=("The sport that Cristiano Ronaldo plays is",),
        hparams={},
    ),
    EditRequest(
        prompt="The Eiffel Tower is located in the city of",
        subject="The Eiffel Tower",
        target_new="Rome",
        target_true="Paris",
        paraphrases=("To see the Eiffel Tower, tourists travel to the city of",),
        neighborhood=("The Louvre is located in the city of",),
        hparams={},
    ),
)


class DemoError(Exception):
    """The demo did not show what it should; the message says why."""


def run(server_options: Sequence[str], data_dir: Path, console: Console) -> int:
    """Start a server of its own on a free port, run the demo, stop the server; returns the exit code."""
    began = time.monotonic()
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir / "demo.log"
    port = claim_port("127.0.0.1", 0)
    command = [sys.executable, "-m", "service.cli", "up", *server_options]
    with log.open("wb") as output:
        server = Child("server", [*command, "--data-dir", str(data_dir), "--port", str(port)], output=output)
    try:
        with Palimpsest(f"http://127.0.0.1:{port}", retries=0) as client:
            _wait_until_ready(client, server, log, console)
            edited = show(client, console)
    except DemoError as error:
        console.print(f"[bold red]The demo failed:[/] {escape(str(error))}")
        return 1
    except ProblemError as error:
        console.print(f"[bold red]The demo failed:[/] {escape(str(error))}\nThe server's output is in {log}.")
        return 1
    finally:
        with console.status("stopping the server …"):
            server.interrupt()
            server.wait(STOP_SECONDS)
    if server.exit_code:
        console.print(f"[bold red]The demo failed:[/] the server did not stop cleanly ({server.ended}); see {log}.")
        return 1
    console.print(f"[bold green]Done[/] in {time.monotonic() - began:.0f} s; the server has stopped.\n")
    _say_what_is_next(edited, data_dir, console)
    return 0


def _wait_until_ready(client: Palimpsest, server: Child, log: Path, console: Console) -> None:
    began = time.monotonic()
    with console.status("starting Valkey, the API and the worker …") as status:
        while time.monotonic() - began < START_SECONDS:
            if server.ended:
                raise DemoError(f"the server ended ({server.ended}). Its last words, from {log}:\n{_tail(log)}")
            try:
                client.ready()
            except UnreachableError:
                pass
            except ProblemError as error:
                status.update(escape(error.problem.detail))
            else:
                break
            time.sleep(0.2)
        else:
            raise DemoError(f"the model was not ready after {START_SECONDS:.0f} s; see {log}")
    card = client.model().card
    console.print(
        f"[bold green]Ready[/] after {time.monotonic() - began:.1f} s: {escape(card.name)}, "
        f"{card.parameters / 1e6:.0f} M parameters, {card.dtype} on {card.device}, at {client.server}\n"
    )


def show(client: Palimpsest, console: Console) -> int:
    """The main job; returns the revision that has all the edits."""
    start = client.model().revision
    for number, fact in enumerate(FACTS, start=1):
        console.rule(f"[bold]Edit {number} of {len(FACTS)}:[/] {fact.subject}, {fact.target_true} → {fact.target_new}")
        edit, outcome = _write(client, fact, console)
        _compare(client, fact, edit, outcome, console)
    console.rule("[bold]Roll back[/]")
    edited, wanted = client.model().revision, client.revisions.get(start).checksum
    made = client.rollback(start)
    console.print(
        f"POST /rollback to r{start} made r{made.revision}: {made.active_count} edits in force", highlight=False
    )
    console.print(f"checksum r{start:<3} {wanted}\nchecksum r{made.revision:<3} {made.checksum}", highlight=False)
    if made.checksum != wanted:
        raise DemoError(f"the checksum of r{made.revision} is not that of r{start}")
    console.print("Every bit of the weights is as before.\n")
    return edited


def _write(client: Palimpsest, fact: EditRequest, console: Console) -> tuple[Edit, Outcome]:
    edit = client.edits.submit(fact)
    with display.JobProgressBar(console, "POST /edits") as bar:
        for current in client.edits.events(edit.id):
            edit = current
            bar.show(edit)
    if edit.status is not EditStatus.APPLIED or edit.outcome is None:
        why = edit.problem.detail if edit.problem else "it gives no reason"
        raise DemoError(f"edit {edit.id} ended {edit.status}: {why}")
    return edit, edit.outcome


def _compare(client: Palimpsest, fact: Fact, edit: Edit, outcome: Outcome, console: Console) -> None:
    prompts = (fact.prompt, *fact.paraphrases, *fact.neighborhood)
    answer = client.generate(GenerateRequest(prompt=prompts, max_new_tokens=NEW_TOKENS, min_revision=edit.revision))
    texts = {result.prompt: (result.before.text, result.after.text) for result in answer.results}
    if outcome.metrics is not None:
        headings = {"base": "before (base)", "head": f"after (r{answer.revision})"}
        console.print(display.fact_table(fact, outcome.metrics, texts, **headings))
    console.print(display.score_lines(outcome))
    score = outcome.facts[0].after
    if score.target_true is not None and score.target_new.probability <= score.target_true.probability:
        raise DemoError(
            f"the edit did not take: after it, {fact.target_new} (p = {score.target_new.probability:.3g}) is not "
            f"likelier than {fact.target_true} (p = {score.target_true.probability:.3g})"
        )
    kept = outcome.summary.after.neighborhood_acc
    if kept is not None and kept < 1:
        console.print("[yellow]A neighbour's likeliest answer changed with the edit: locality is not perfect.[/]")
    console.print()


def _tail(log: Path, lines: int = 12) -> str:
    with suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    return ""


def _say_what_is_next(edited: int, data_dir: Path, console: Console) -> None:
    arguments = "" if data_dir == Path(".palimpsest") else f" ARGS='--data-dir {data_dir}'"
    console.print(
        f"Next: start the same stack, and leave it running:\n\n    make serve{arguments}\n\n"
        f"The edited state, r{edited}, can still be read beside the base:\n\n"
        f"    curl -G http://127.0.0.1:8000/generate -d after=r{edited} "
        f"--data-urlencode 'prompt={FACTS[-1].prompt}'\n\n"
        "In the browser: http://127.0.0.1:8000    All the calls: http://127.0.0.1:8000/docs",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
