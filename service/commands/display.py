"""What the commands show: before and after side by side, scores, timings, progress."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from service.contracts.edits import Edit, Fact, Outcome
from service.contracts.evaluations import EvaluationResult
from service.contracts.jobs import Job
from service.contracts.jobs import Progress as JobProgress
from service.contracts.model import ModelStatus
from service.contracts.problem import Problem
from service.contracts.revisions import Revision
from service.contracts.scores import FactScores, Metrics, PromptScore, Summaries

MOST_WORST = 5
"""Facts that a batch's table names because they came out worst."""

SHOWN_SCORES = (("ES", "PS", "NS", "EA", "PA", "NA"), ("rewrite_acc", "rephrase_acc", "neighborhood_acc"))


def describe_problem(problem: Problem) -> Iterable[str]:
    """A problem as plain lines: the sentence, then each field at fault unless the sentence names it already."""
    yield problem.detail
    for error in problem.errors:
        if error.detail not in problem.detail:
            yield f"  {error.field}: {error.detail}"


def two_sides(before: str, after: str, *columns: str) -> Table:
    """An empty table of prompts and what each side makes of them."""
    table = Table(*columns, expand=True, show_lines=True, header_style="bold")
    for name in ("prompt", before, after):
        table.add_column(name, ratio=3)
    return table


def one_line(text: str) -> Text:
    """A continuation on one line; that it is empty is said."""
    line = " ".join(text.split())
    return Text(line) if line else Text("(ends at once)", style="dim")


def probability(value: float) -> str:
    """With three decimals, or as a power of ten."""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"  # noqa: PLR2004 - three decimals


def fact_table(fact: Fact, metrics: Metrics, texts: dict[str, tuple[str, str]], *, base: str, head: str) -> Table:
    """The edited prompt, its paraphrases and its neighbours: text and target probabilities on both sides.

    `texts` has the continuations (before, after) by prompt; a prompt without any shows its probabilities alone.
    """
    table = two_sides(base, head, "")
    table.columns[0].style = "dim"
    before, after = metrics.before, metrics.after
    kinds = (
        ("edited", (before.rewrite,), (after.rewrite,)),
        ("para-\nphrase", before.paraphrases, after.paraphrases),
        ("neigh-\nbour", before.neighborhood, after.neighborhood),
    )
    for kind, olds, news in kinds:
        for old, new in zip(olds, news, strict=True):
            texts_of = texts.get(old.prompt, (None, None))
            table.add_row(kind, Text(old.prompt), _side(texts_of[0], old, fact), _side(texts_of[1], new, fact))
    return table


def score_lines(outcome: Outcome) -> RenderableType:
    """The summary scores before and after, and the seconds of each phase."""
    before, after = outcome.summary.before, outcome.summary.after
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="dim")
    grid.add_column()
    for label, names in zip(("scores", ""), SHOWN_SCORES, strict=True):
        known = [(name, getattr(before, name), getattr(after, name)) for name in names]
        shown = (f"[bold]{name}[/] {_short(old)} → {_short(new)}" for name, old, new in known if new is not None)
        grid.add_row(label, "   ".join(shown))
    grid.add_row("seconds", _seconds(outcome.timings))
    return grid


def batch_view(facts: Sequence[Fact], outcome: Outcome) -> RenderableType:
    """What a batch found: the means of the scores on both sides, how many facts took, and those that came out worst."""
    rows = [(fact.prompt, fact.target_new, scores) for fact, scores in zip(facts, outcome.facts, strict=True)]
    return _facts_view(rows, "rewrites took", outcome.summary, outcome.timings, ("before", "after"))


def evaluation_view(result: EvaluationResult) -> RenderableType:
    """What an evaluation found: the same, at the base and at the revision."""
    rows = [(scores.prompt, scores.target_new, scores) for scores in result.facts]
    sides = ("base", f"r{result.revision}")
    return _facts_view(rows, f"facts hold at r{result.revision}", result.summary, result.timings, sides)


def _facts_view(
    rows: Sequence[tuple[str, str, FactScores]],
    taken: str,
    summary: Summaries,
    timings: Mapping[str, float],
    sides: tuple[str, str],
) -> RenderableType:
    over = "1 fact" if len(rows) == 1 else f"{len(rows)} facts"
    means = Table("score", *sides, title=f"means over {over}", box=None)
    before = summary.before.named()
    for name, value in summary.after.named().items():
        means.add_row(name, _mean(before.get(name)), _mean(value))
    count = sum(scores.after.summary.EA == 1 for *_, scores in rows)
    line = f"{count} of {len(rows)} {taken}: the whole target is the likeliest answer"
    columns = ("prompt", "target", f"p {sides[0]}", f"p {sides[1]}", "p of the old target")
    worst = Table(*columns, title="worst facts", box=None)
    for prompt, target, scores in sorted(rows, key=lambda row: row[2].after.target_new.probability)[:MOST_WORST]:
        worst.add_row(Text(prompt), Text(target), *_worst_cells(scores))
    return Group(means, "", line, "", worst, "", f"seconds   {_seconds(timings)}")


def _worst_cells(scores: FactScores) -> Iterable[str]:
    yield probability(scores.before.target_new.probability)
    yield probability(scores.after.target_new.probability)
    yield probability(scores.after.target_true.probability) if scores.after.target_true else ""


def status_view(status: ModelStatus, revisions: Iterable[Revision], edits: Iterable[Edit]) -> RenderableType:
    """The model, its workers, the newest revisions and edits."""
    card = status.card
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    size = f"{card.parameters / 1e6:.0f} M parameters"
    facts.add_row("model", Text(f"{card.name} ({card.family}, {size}, {card.dtype} on {card.device})"))
    for worker in status.workers:
        served = "" if worker.revision is None else f", r{worker.revision}"
        facts.add_row("leader" if worker.leader else "worker", Text(f"{worker.state}: {worker.detail}{served}"))
    if not status.workers:
        facts.add_row("worker", "none; edits wait until one starts")
    facts.add_row("head", f"r{status.revision}")
    facts.add_row("checksum", status.checksum)
    history = Table("revision", "kind", "edits in force", "made at", title="revisions, newest first", box=None)
    for revision in revisions:
        made_at = revision.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        kind = revision.kind if revision.to is None else f"{revision.kind} to r{revision.to}"
        history.add_row(f"r{revision.revision}", kind, str(revision.active_count), made_at)
    changes = Table("edit", "status", "prompt", "target", title="edits, newest first", box=None)
    for edit in edits:
        first = edit.request.facts[0]
        more = f" and {edit.fact_count - 1} more" if edit.fact_count > 1 else ""
        changes.add_row(edit.id, edit.status, Text(first.prompt + more), Text(first.target_new))
    return Group(facts, "", history, "", changes)


class JobProgressBar:
    """A live bar that follows one job: phase, step, loss, probability of the target."""

    def __init__(self, console: Console, label: str) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(label, total=None, numbers="")
        self._label = label

    def __enter__(self) -> "JobProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, job: Job[Any]) -> None:
        """Move the bar to where the job is."""
        progress = job.progress
        if progress is None:
            place = f" ({job.position} before it)" if job.position else ""
            self._bar.update(self._task, description=f"{self._label}: {job.status}{place}", numbers=job.notice or "")
            return
        self._bar.update(
            self._task,
            description=f"{self._label}: {progress.phase}",
            completed=progress.step,
            total=progress.steps or None,
            numbers=_numbers(progress),
        )

    def refresh(self) -> None:
        """Draw it now."""
        self._bar.refresh()


def _numbers(progress: JobProgress) -> str:
    parts = [f"{progress.step}/{progress.steps}"] if progress.steps else []
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.3f}")
    if progress.target_probability is not None:
        parts.append(f"p {progress.target_probability:.3f}")
    if progress.seconds_left is not None:
        parts.append(f"{duration(progress.seconds_left)} left")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """About how long: `40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:  # noqa: PLR2004 - a minute and a half
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _side(text: str | None, score: PromptScore, fact: Fact) -> Text:
    lines = [] if text is None else [one_line(text)]
    for target, target_score in ((fact.target_new, score.target_new), (fact.target_true, score.target_true)):
        if target_score is not None:
            lines.append(Text(f"p={probability(target_score.probability)} {target}", style="cyan"))
    return Text("\n").join(lines)


def _seconds(timings: Mapping[str, float]) -> str:
    return "   ".join(f"[bold]{name}[/] {value:.1f}" for name, value in timings.items())


def _mean(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"  # noqa: RUF001 - an en dash stands for "no value"


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"  # noqa: RUF001 - an en dash stands for "no value"
