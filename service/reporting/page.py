"""A benchmark's report as one HTML page that needs nothing else: light or dark, on a phone or on paper."""

from collections.abc import Iterator, Sequence
from html import escape

from service.contracts.benchmarks import Benchmark, BenchmarkResult
from service.reporting.figures import all_scores, comparison, curve, times
from service.reporting.plots import curve_plots, scores_plot, time_plot, tradeoff_plot
from service.reporting.svg import COLOURS, colour
from service.reporting.wording import KEY, failures, setting, title

STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1c1c1c; --faint: #5c5c5c; --rule: #dcdcdc;
  --c0: #0065a8; --c1: #c24e00; --c2: #00795b; --c3: #a8327f; --c4: #7a6a00; --c5: #2f86c7; --c6: #8a4b2a; --c7: #555;
  --c8: #5b4bb5; --c9: #6f9a1f; --c10: #d0477b; --c11: #0c8a95; }
@media (prefers-color-scheme: dark) { :root { --page: #161616; --ink: #ececec; --faint: #a8a8a8; --rule: #3c3c3c;
  --c0: #6bb8ef; --c1: #ff9a57; --c2: #3fcf9f; --c3: #ef8cc8; --c4: #e3d15a; --c5: #a7d6f7; --c6: #d79c7c;
  --c7: #bbb; --c8: #b3a5ff; --c9: #b7dd6e; --c10: #ff9dbd; --c11: #6fdbe4; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.35rem; line-height: 1.25; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
h3 { font-size: .95rem; margin: 0 0 .4rem; font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; }
dt { color: var(--faint); } dd { margin: 0; }
p { max-width: 46rem; } .key { color: var(--faint); font-size: .9rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1.5rem; }
figure { margin: 0; max-width: 34rem; } svg { width: 100%; height: auto; display: block; }
svg text { font: 11px system-ui, sans-serif; fill: var(--ink); } svg .mid { dominant-baseline: middle; }
.grid { stroke: var(--rule); stroke-width: 1; } .interval { stroke-width: 2; opacity: .65; }
.curve { fill: none; stroke-width: 2; }
ul.legend { list-style: none; margin: .3rem 0 .8rem; padding: 0; display: flex; flex-wrap: wrap; gap: .1rem 1rem;
  font-size: .85rem; }
.legend i { display: inline-block; width: .7rem; height: .7rem; border-radius: 50%; margin-right: .4rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem .3rem 0; text-align: left; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { font-weight: 600; color: var(--faint); } li { margin: .15rem 0; }
@media print { body { max-width: none; } .scroll { overflow: visible; } }
"""

CLASSES = "".join(
    f"svg .c{at} {{ fill: var(--c{at}); }} svg line.c{at}, svg .curve.c{at} {{ stroke: var(--c{at}); fill: none; }} "
    f"i.c{at} {{ background: var(--c{at}); }}\n"
    for at in range(COLOURS)
)


def page(benchmark: Benchmark, result: BenchmarkResult) -> str:
    """The whole page."""
    name = escape(title(result))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}</title>\n<style>{STYLE}{CLASSES}</style>\n</head>\n<body>\n<h1>{name}</h1>\n"
        + "\n".join(_body(benchmark, result))
        + "\n</body>\n</html>\n"
    )


def _body(benchmark: Benchmark, result: BenchmarkResult) -> Iterator[str]:
    terms = (f"<dt>{escape(term)}</dt><dd>{escape(meaning)}</dd>" for term, meaning in setting(benchmark, result))
    yield f"<dl>{''.join(terms)}</dl>"
    yield _table(_turned(comparison(result)))
    yield f'<p class="key">{escape(KEY)}</p>'
    yield from _plots(result)
    for method in result.methods:
        if method.checkpoints:
            yield f"<h2>{escape(method.label)}, as records accumulate</h2>"
            yield _table(curve(method))
    yield "<h2>All scores, before and after</h2>"
    yield _table(all_scores(result))
    yield "<h2>Seconds of an edit, by phase</h2>"
    yield _table(_turned(times(result)))
    if failed := failures(result):
        lines = "".join(f"<li>{escape(line)}</li>" for line in failed)
        yield f"<h2>What failed, or was left out</h2><ul>{lines}</ul>"


def _plots(result: BenchmarkResult) -> Iterator[str]:
    if all(method.summary is None for method in result.methods):
        return
    yield "<h2>In pictures</h2>"
    yield _legend([method.label for method in result.methods])
    yield '<div class="plots">'
    yield _figure("Scores by method, 95 % intervals", scores_plot(result))
    if (tradeoff := tradeoff_plot(result)) is not None:
        yield _figure("Efficacy against locality", tradeoff)
    for name, plot in curve_plots(result):
        yield _figure(name, plot)
    if (found := time_plot(result)) is not None:
        plot, phases = found
        yield _figure("Seconds of an edit, by phase", plot + _legend(phases))
    yield "</div>"


def _figure(name: str, plot: str) -> str:
    return f"<figure><h3>{escape(name)}</h3>{plot}</figure>"


def _legend(names: Sequence[str]) -> str:
    items = (f'<li><i class="{colour(at)}"></i>{escape(name)}</li>' for at, name in enumerate(names))
    return f'<ul class="legend">{"".join(items)}</ul>'


def _turned(rows: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Methods as columns: they are few, and scores many."""
    return list(zip(*rows, strict=True))


def _table(rows: Sequence[Sequence[str]]) -> str:
    header, *rest = rows
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rest)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
