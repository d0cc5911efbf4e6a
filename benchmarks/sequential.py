"""Many facts written one after another: what becomes of early and late facts, of locality, and of the model's prose.

    python -m benchmarks.sequential FILE --text WIKITEXT [--method memit] [--n 500] [--batch 50] [--every 50]
        [--set NAME=VALUE] [--corpus TEXT] [--json]

FILE is CounterFact in its original schema. Each edit of --batch facts is made on those before it. After every --every
facts the first and the last 50 written so far are scored, with their paraphrases and three neighbours each, and the
perplexity of --text is taken; at the end the prompts of all are scored. `ratio` is the last perplexity over the
base's. benchmarks/curves.py draws what several runs print.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.bench import Bench, changes, chosen, counterfact, method_options, parser
from service.contracts.edits import Fact
from worker.editing.method import discover
from worker.engine.state import State
from worker.evaluation.metrics import fact_scores, summaries

GROUP = 50
"""Facts that are early, and facts that are late."""

NEIGHBOURS = 3
"""Of each fact, that are scored."""

TOKENS, WINDOW = 8192, 512
"""Of the text, for perplexity."""


def main() -> None:
    """Edit, look every so often, and print what was seen."""
    arguments = _arguments()
    bench = Bench(arguments)
    method = discover()[arguments.method]
    hparams = bench.hparams(method, changes(arguments))
    facts = [_few(fact) for fact in chosen(bench, list(counterfact(arguments.file)), known=False, n=arguments.n)]
    base = perplexity(bench, bench.base, arguments.text)
    state, points, spent = bench.base, [_point(bench, [], state=bench.base, text=arguments.text)], 0.0
    for begin in range(0, len(facts), arguments.batch):
        group = facts[begin : begin + arguments.batch]
        clock = time.perf_counter()
        delta = bench.compute(method, group, hparams, state)
        bench.remember(delta)
        state = state.plus(delta)
        spent += time.perf_counter() - clock
        done = begin + len(group)
        if done % arguments.every == 0 or done == len(facts):
            points.append(_point(bench, facts[:done], state, arguments.text))
            print(json.dumps(points[-1]), file=sys.stderr)
    result = {
        "ratio": points[-1]["perplexity"] / base,
        "method": arguments.method,
        "batch": arguments.batch,
        "facts": len(facts),
        "seconds_per_fact": spent / len(facts),
        "hparams": changes(arguments),
        "all": _scores(bench, [_bare(fact) for fact in facts], state),
        "points": points,
    }
    print(json.dumps(result))


def perplexity(bench: Bench, state: State, text: Path) -> float:
    """exp of the mean negative log-likelihood of a token, given up to WINDOW - 1 before it."""
    ids = bench.loaded.tokenizer(text.read_text(encoding="utf-8")[: 8 * TOKENS])["input_ids"][:TOKENS]
    windows = torch.tensor(ids[: len(ids) // WINDOW * WINDOW], device=bench.loaded.device).reshape(-1, WINDOW)
    total = 0.0
    with torch.no_grad(), state.view({})():
        for window in windows:
            hidden = bench.loaded.trunk(input_ids=window[None], use_cache=False).last_hidden_state[0, :-1]
            logprobs = bench.loaded.logits(hidden).log_softmax(-1)
            total -= float(logprobs.gather(1, window[1:, None]).sum())
    return math.exp(total / (windows.numel() - len(windows)))


def _few(fact: Fact) -> Fact:
    return fact.model_copy(update={"neighborhood": fact.neighborhood[:NEIGHBOURS]})


def _bare(fact: Fact) -> Fact:
    return fact.model_copy(update={"paraphrases": (), "neighborhood": ()})


def _scores(bench: Bench, facts: Sequence[Fact], state: State) -> dict[str, float | None]:
    summary = summaries([fact_scores(metrics) for metrics in bench.measured(facts, state)]).after
    return {key: getattr(summary, key) for key in ("ES", "PS", "NS", "EA", "neighborhood_acc")}


def _point(bench: Bench, done: Sequence[Fact], state: State, text: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"facts": len(done), "perplexity": perplexity(bench, state, text)}
    groups = {"early": done[:GROUP], "late": done[-GROUP:]} if done else {}
    return found | {name: _scores(bench, facts, state) for name, facts in groups.items()}


def _arguments() -> argparse.Namespace:
    found = parser(__doc__)
    method_options(found, "memit")
    found.add_argument("file", type=Path)
    found.add_argument("--text", type=Path, required=True)
    found.add_argument("--n", type=int, default=500)
    found.add_argument("--batch", type=int, default=50)
    found.add_argument("--every", type=int, default=50)
    return found.parse_args()


if __name__ == "__main__":
    main()
