"""Quality on CounterFact records by method and hyperparameters, with bootstrapped 95 % intervals.

    python -m benchmarks.counterfact FILE [--method memit] [--known] [--n 100] [--batch 100] [--sequence]
        [--set layers=[3]] [--corpus TEXT] [--json]

FILE is CounterFact in its original schema. The records of lowest case_id are taken where the model gives target_true
more probability than target_new (the papers' setting), or, with --known, where target_true is its top-1 answer.
--batch facts are written by one edit. Each edit is made on the base and scored by itself; with --sequence it is made
on the edits before it, and all facts are scored at the end.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench, changes, chosen, counterfact, method_options, parser
from service.contracts.edits import Fact
from service.contracts.scores import Metrics, Summaries
from worker.editing.delta import joined
from worker.editing.method import Method, discover
from worker.engine.state import State
from worker.evaluation.metrics import fact_scores, summaries

NAMES = ("ES", "PS", "NS", "S", "EA", "PA", "NA", "rewrite_acc", "rephrase_acc", "neighborhood_acc")


def main() -> None:
    """Edit, score, and print the means."""
    arguments = _arguments()
    bench = Bench(arguments)
    method = discover()[arguments.method]
    hparams = bench.hparams(method, changes(arguments))
    facts = chosen(bench, list(counterfact(arguments.file)), arguments.known, arguments.n)
    groups = [facts[begin : begin + arguments.batch] for begin in range(0, len(facts), arguments.batch)]
    state, results, begin = bench.base, list[Metrics](), time.perf_counter()
    spent = 0.0
    for done, group in enumerate(groups, 1):
        edited = _edited(bench, method, group, hparams, state)
        spent += time.perf_counter() - begin
        if arguments.sequence:
            state = edited
        else:
            results += bench.measured(group, edited)
        print(f"\r{done} of {len(groups)} edits, {spent / done:.1f} s each", end="", file=sys.stderr)
        begin = time.perf_counter()
    print(file=sys.stderr)
    results = results or bench.measured(facts, state)
    _report(results, spent / len(facts), arguments)


def _edited(bench: Bench, method: Method, facts: Sequence[Fact], hparams: Any, state: State) -> State:
    """The state with these facts written; one after another by a method that takes one."""
    groups = [facts] if method.batch else [[fact] for fact in facts]
    deltas = []
    so_far = state
    for group in groups:
        deltas.append(bench.compute(method, group, hparams, so_far))
        so_far = so_far.plus(deltas[-1])
        bench.remember(deltas[-1])
    return state.plus(joined(deltas))


def _report(results: Sequence[Metrics], spent: float, arguments: argparse.Namespace) -> None:
    means = summaries([fact_scores(metrics) for metrics in results])
    scores = {name: _score(name, means) for name in NAMES}
    row = {
        "method": arguments.method,
        "n": len(results),
        "batch": arguments.batch,
        "sequence": arguments.sequence,
        "known": arguments.known,
        "seconds_per_fact": spent,
        "hparams": changes(arguments),
        "scores": scores,
    }
    if arguments.json:
        print(json.dumps({"ratio": scores["S"]["after"], **row}))
        return
    print(f"{len(results)} facts by {arguments.method}, {arguments.batch} at once, {spent:.2f} s a fact")
    for name, score in scores.items():
        low, high = score["ci95"]
        before, after = 100 * score["before"], 100 * score["after"]
        print(f"{name:>17}  {before:6.1f} -> {after:6.1f}  [{100 * low:.1f}, {100 * high:.1f}]")


def _score(name: str, means: Summaries) -> dict[str, Any]:
    """A mean before and after, and its interval."""
    after = getattr(means.after, name)
    return {"before": getattr(means.before, name), "after": after, "ci95": means.after.ci95.get(name, (after, after))}


def _arguments() -> argparse.Namespace:
    found = parser(__doc__)
    method_options(found, "rome")
    found.add_argument("file", type=Path)
    found.add_argument("--known", action="store_true")
    found.add_argument("--n", type=int, default=100)
    found.add_argument("--batch", type=int, default=1)
    found.add_argument("--sequence", action="store_true")
    return found.parse_args()


if __name__ == "__main__":
    main()
