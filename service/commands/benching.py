"""The command that compares methods on a data set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.client import Palimpsest
from service.commands import completing
from service.commands.calls import carry_out, connect, exit_unless_well, named, print_json, say_how_it_stands
from service.commands.options import JsonOption, RevisionOption, ServerOption, WaitOption
from service.commands.reading import read_dataset, tell_left_out
from service.connection import SERVER
from service.contracts.benchmarks import (
    MOST_FAULT,
    MOST_FAULTS,
    MOST_RECORDS,
    Benchmark,
    BenchmarkRequest,
    Mode,
)
from service.contracts.records import Record
from service.datasets.forms import FORMS
from service.datasets.reading import Dataset
from service.datasets.sources import HUB, SHIPPED
from service.reporting.figures import comparison
from service.reporting.wording import failures

FILES = {"json": "report.json", "md": "report.md", "html": "report.html", "easyedit": "easyedit.json"}
"""What --out writes, by the report's format."""

NAME_WIDTH, FIGURE_WIDTH = 34, 24
"""What the names of scores take of a line, and a figure with its interval."""

MOST_SENT = 7_000_000
"""Bytes of records that are sent at once; by default a server takes a million more."""

DatasetOption = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE",
        help=f"A file of CounterFact, zsRE, KnowEdit, MQuAKE or own records, or one of {', '.join((SHIPPED, *HUB))}.",
    ),
]
FormOption = Annotated[
    str | None, typer.Option(help=f"How a file's records are written, if not as they show: {', '.join(FORMS)}.")
]
BatchSizeOption = Annotated[
    int | None, typer.Option(help="Records of one edit; by default 1, with --mode batch all of them.")
]
HparamOption = Annotated[
    list[str] | None,
    typer.Option(metavar="METHOD.NAME=VALUE", help="A hyperparameter, its value as in JSON; repeatable."),
]
MethodsOption = Annotated[
    list[str] | None,
    typer.Option("--method", help="Repeatable; rome by default.", autocompletion=completing.methods),
]
OutOption = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help=f"Write the report there: {', '.join(FILES.values())}.")
]


def bench(
    dataset: DatasetOption = SHIPPED,
    method: MethodsOption = None,
    n: Annotated[int, typer.Option("--n", help="Records, at most.")] = 100,
    batch_size: BatchSizeOption = None,
    mode: Annotated[
        Mode, typer.Option(help="single and batch: each edit on the same weights; sequential: on those before it.")
    ] = Mode.SINGLE,
    known_only: Annotated[
        bool, typer.Option("--known-only", help="Only records whose target_true is the model's own answer.")
    ] = False,
    likelier_only: Annotated[
        bool, typer.Option("--likelier-only", help="Only records whose target_true is likelier than target_new.")
    ] = False,
    generation: Annotated[
        bool, typer.Option("--generation", help="Score what is said freely, too; takes much longer.")
    ] = False,
    checkpoints: Annotated[int | None, typer.Option(help="How often a sequence is scored; by default 5.")] = None,
    hparam: HparamOption = None,
    seed: Annotated[int | None, typer.Option(help="Draw the records; by default the first are taken.")] = None,
    revision: RevisionOption = "base",
    form: FormOption = None,
    out: OutOption = None,
    wait: WaitOption = True,
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
) -> None:
    """Compare methods on a data set: each edit is scored and dropped; the head stays as it is."""
    if out is not None and not wait:
        raise typer.BadParameter("is written once the benchmark has ended, so wait for it", param_hint="--out")
    if checkpoints is not None and mode is not Mode.SEQUENTIAL:
        raise typer.BadParameter(f"has no effect with --mode {mode}; take sequential", param_hint="--checkpoints")
    asked: dict[str, Any] = {"methods": _methods(method or ["rome"], hparam or []), "n": n, "mode": mode, "seed": seed}
    asked |= {"batch_size": batch_size, "revision": revision, "generation": generation}
    asked |= {"known_only": known_only, "likelier_only": likelier_only, "dataset": dataset}
    if form is not None or Path(dataset).exists() or dataset not in (SHIPPED, *HUB):
        asked |= {"dataset": Path(dataset).name, **_read(dataset, form, n, generation=generation)}
    if checkpoints is not None:
        asked["checkpoints"] = checkpoints
    request = BenchmarkRequest.model_validate(asked)
    with connect(server) as client:
        benchmark = carry_out(client.benchmarks, request, "benchmark", wait=wait)
        if out is not None:
            write_report(client, benchmark, out)
    if as_json:
        print_json(benchmark)
    else:
        show_benchmark(benchmark, out, Console())
    exit_unless_well(benchmark)


def _methods(names: Sequence[str], hparams: Sequence[str]) -> list[dict[str, Any]]:
    chosen: list[dict[str, Any]] = [{"method": name, "hparams": {}} for name in names]
    for text in hparams:
        name, value = named(text, "--hparam")
        method, dot, hparam = name.partition(".")
        takers = [one for one in chosen if one["method"] == method]
        if not (dot and takers):
            methods = ", ".join(dict.fromkeys(names))
            raise typer.BadParameter(f"{text!r} must be METHOD.NAME=VALUE, of {methods}", param_hint="--hparam")
        for one in takers:
            one["hparams"][hparam] = value
    return chosen


def _read(source: str, form: str | None, n: int, *, generation: bool) -> dict[str, Any]:
    """The records of a file, without what only free generation needs; what is wrong with others is told."""
    found = read_dataset(source, "--dataset", form, references=generation)
    records = found.records
    if not generation:
        records = tuple(one.model_copy(update={"reference_texts": (), "generation_prompts": ()}) for one in records)
    records = records[: _count_to_send(records, n)]
    faults = _faults(found, len(records))
    tell_left_out(faults)
    told = [fault[:MOST_FAULT] for fault in faults[:MOST_FAULTS]]
    return {"records": records, "left_out": found.size - len(records), "faults": told}


def _count_to_send(records: Sequence[Record], n: int) -> int:
    """The n that are asked for, and as many behind them as fit into a request: which are too long the worker knows."""
    size = 0
    for count, record in enumerate(records[:MOST_RECORDS]):
        size += len(record.model_dump_json(exclude_defaults=True).encode())
        if count >= n and size > MOST_SENT:
            return count
    return min(len(records), MOST_RECORDS)


def _faults(found: Dataset, sent: int) -> list[str]:
    """Why records of a file are not among those that are sent."""
    behind = len(found.records) - sent
    unsent = [f"the last {behind} records: no more can be sent at once"] if behind else []
    return [*unsent, *map(str, found.faults)]


def write_report(client: Palimpsest, benchmark: Benchmark, out: Path) -> None:
    """Write the report of a benchmark in all its forms into a folder, if it found anything."""
    if benchmark.result is None:
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        for form, name in FILES.items():
            (out / name).write_bytes(client.benchmarks.report(benchmark, form))
    except OSError as error:
        raise typer.BadParameter(f"{out} cannot be written: {error.strerror}", param_hint="--out") from error


def show_benchmark(benchmark: Benchmark, out: Path | None, console: Console) -> None:
    """What a benchmark found, for people; `out` is where its report is."""
    result = benchmark.result
    if result is not None:
        header, *rows = comparison(result)
        over = f"{len(result.records)} records of {result.dataset}, {benchmark.request.mode}"
        console.print(f"{over}; percent, with 95 % intervals", markup=False, highlight=False, soft_wrap=True)
        fitting = max(1, (console.width - NAME_WIDTH) // FIGURE_WIDTH)
        for begin in range(0, len(rows), fitting):
            console.print(_table(header, rows[begin : begin + fitting]), markup=False)
        for line in failures(result):
            console.print(line, style="yellow", markup=False, soft_wrap=True)
    scored = "" if benchmark.revision is None else f", on r{benchmark.revision}"
    written = "" if out is None or result is None else f"; its report is in {out}"
    say_how_it_stands(benchmark, scored + written, console)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Methods side by side, their figures one below the other."""
    table = Table(header[0], box=None)
    for row in rows:
        table.add_column(Text(row[0]), justify="right")
    for at, name in enumerate(header[1:], 1):
        table.add_row(name, *(row[at] for row in rows))
    return table
