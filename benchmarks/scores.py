"""One table from the report.json files that `palimpsest bench --out` has written of the same records.

python -m benchmarks.scores REPORT.json [REPORT.json ...] [--known] [--columns ES,PS,NS] [--json]

The methods of all files stand below one another. `--known` takes only the records whose target_true was argmax at every
token before any edit. Without `--columns` it is all that `palimpsest bench` shows.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from service.contracts.benchmarks import BenchmarkResult, MethodResult, RecordResult
from service.contracts.scores import RecordScores
from service.reporting.figures import Figure, comparison, figure, measured, perplexity, written
from service.reporting.markdown import table
from worker.evaluation.records import record_summaries

SMALL_COLUMNS = ("perplexity", "s per edit")


def main() -> None:
    """Read the reports, print the table."""
    arguments = _arguments()
    results = [_result(path, known=arguments.known) for path in arguments.reports]
    chosen = {tuple(record.record.case_id for record in result.records) for result in results}
    if len(chosen) > 1:
        raise SystemExit("the reports are not of the same records")
    whole = results[0].model_copy(update={"methods": tuple(method for result in results for method in result.methods)})
    if arguments.json:
        print(json.dumps({"records": len(chosen.pop()), "methods": [_named(method) for method in whole.methods]}))
    else:
        print(f"{len(chosen.pop())} records of {whole.dataset}\n")
        print("\n".join(table(_rows(whole, arguments.columns) if arguments.columns else comparison(whole))))


def _arguments() -> argparse.Namespace:
    found = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    found.add_argument("reports", type=Path, nargs="+", metavar="REPORT.json")
    found.add_argument("--known", action="store_true", help="the top-1 subset")
    found.add_argument("--columns", type=lambda text: text.split(","), help="scores, with commas between them")
    found.add_argument("--json", action="store_true")
    return found.parse_args()


def _result(path: Path, *, known: bool) -> BenchmarkResult:
    try:
        result = BenchmarkResult.model_validate_json(path.read_bytes())
    except ValidationError:
        raise SystemExit(f"{path} is no report.json that `palimpsest bench --out` has written") from None
    if not known:
        return result
    kept = tuple(record for record in result.records if _is_known(record))
    if not kept:
        raise SystemExit(f"{path} has no record whose target_true is the model's own answer")
    methods = (_only(method, at, kept) for at, method in enumerate(result.methods))
    return result.model_copy(update={"records": kept, "methods": tuple(methods)})


def _is_known(record: RecordResult) -> bool:
    """Whether every fact's target_true was the model's own answer; all methods begin from the same weights."""
    scores = next(_scored(outcome.scores for outcome in record.outcomes), None)
    sides = [] if scores is None else [fact.before.target_true for fact in scores.facts]
    return bool(sides) and all(side is not None and side.accuracy == 1 for side in sides)


def _only(method: MethodResult, at: int, records: Sequence[RecordResult]) -> MethodResult:
    """The method's scores of some of the records."""
    scores = list(_scored(record.outcomes[at].scores for record in records))
    changes = {"scored": len(scores), "failed": len(records) - len(scores)}
    return method.model_copy(update={**changes, "summary": record_summaries(scores) if scores else None})


def _scored(scores: Iterator[RecordScores | None]) -> Iterator[RecordScores]:
    return (one for one in scores if one is not None)


def _rows(result: BenchmarkResult, names: Sequence[str]) -> list[list[str]]:
    rows = [
        [
            method.label,
            *(written(name, figure(method, name)) for name in names),
            perplexity(method),
            measured(method, "seconds_per_edit"),
        ]
        for method in result.methods
    ]
    before = [written(name, figure(result.methods[0], name, before=True)) for name in names]
    return [["method", *names, *SMALL_COLUMNS], ["before", *before, "x 1", ""], *rows]


def _named(method: MethodResult) -> dict[str, object]:
    names = method.summary.after.named() if method.summary else {}
    found: dict[str, Figure | None] = {name: figure(method, name) for name in names}
    return {
        "method": method.label,
        "scored": method.scored,
        "failed": method.failed,
        "seconds_per_edit": method.seconds_per_edit,
        "seconds_per_record": method.seconds_per_record,
        "perplexity_ratio": method.perplexity_ratio,
        "ci95": method.ci95,
        "scores": {name: [one.mean, one.low, one.high] for name, one in found.items() if one is not None},
    }


if __name__ == "__main__":
    main()
