"""A benchmark's report as Markdown."""

import re
from collections.abc import Iterator, Sequence

from service.contracts.benchmarks import Benchmark, BenchmarkResult
from service.reporting.figures import all_scores, comparison, curve, times
from service.reporting.wording import KEY, failures, setting, title


def markdown(benchmark: Benchmark, result: BenchmarkResult) -> str:
    """The report: the comparison, every score, the checkpoints, the times, what failed."""
    return "\n".join(_lines(benchmark, result)) + "\n"


def _lines(benchmark: Benchmark, result: BenchmarkResult) -> Iterator[str]:
    yield f"# {plain(title(result))}\n"
    yield from (f"- {term}: {plain(meaning)}" for term, meaning in setting(benchmark, result))
    yield f"\n{KEY}\n"
    yield from table(comparison(result))
    for method in result.methods:
        if method.checkpoints:
            yield f"\n## {plain(method.label)}, as records accumulate\n"
            yield from table(curve(method))
    yield "\n## All scores, before and after\n"
    yield from table(all_scores(result))
    yield "\n## Seconds of an edit, by phase\n"
    yield from table(times(result))
    if failed := failures(result):
        yield "\n## What failed, or was left out\n"
        yield from (f"- {plain(line)}" for line in failed)


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as a table, the header first."""
    header, *rest = rows
    yield _line(header)
    yield _line(["---"] * len(header))
    yield from map(_line, rest)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(plain, cells))} |" if cells[0] != "---" else f"|{'|'.join(cells)}|"


def plain(text: str) -> str:
    """Text in which nothing is taken for a mark of Markdown or HTML, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>|#&~])", r"\\\1", " ".join(text.split()))
