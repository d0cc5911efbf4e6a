"""Scoring of CounterFact records on the base and on edited weights, beside one prompt and target at a time.

python -m benchmarks.scoring COUNTERFACT.json [--n 100] [--plain 20] [--json]

`plain` records are scored the plain way: the whole model, one row a pass, a pass for each prompt, target and side.
`ratio` is its seconds a record over the batched ones.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.bench import Bench, counterfact, parser, report, seconds
from service.contracts.edits import Fact
from service.contracts.scores import Metrics
from worker.editing.method import discover
from worker.engine.state import State
from worker.models.positions import target_row
from worker.models.view import Weights

SIDES = 2


def main() -> None:
    """Score the same records both ways, compare the numbers and the times, print."""
    options = parser(__doc__)
    options.add_argument("file", type=Path)
    options.add_argument("--n", type=int, default=100)
    options.add_argument("--plain", type=int, default=20)
    arguments = options.parse_args()
    bench = Bench(arguments)
    facts = counterfact(arguments.file)[: arguments.n]
    method = discover()["rome"]
    edited = bench.base.plus(bench.compute(method, facts[:1], bench.hparams(method, {}), bench.base))
    bench.measured(facts[:2], edited)
    found: list[Metrics] = []
    batched = seconds(lambda: found.extend(bench.measured(facts, edited)))
    said: list[list[float]] = []
    plain = seconds(lambda: said.extend(_one_by_one(bench, fact, edited) for fact in facts[: arguments.plain]))
    pairs = zip(map(_probabilities, found), said, strict=False)
    rows = [SIDES * 2 * (1 + len(fact.paraphrases) + len(fact.neighborhood)) for fact in facts[: arguments.plain]]
    result = {
        "ratio": (plain / len(said)) / (batched / len(facts)),
        "at_least": 6.0,
        "batched_seconds_per_record": batched / len(facts),
        "plain_seconds_per_record": plain / len(said),
        "passes_per_record": sum(rows) / len(rows),
        "largest_difference": max(abs(one - other) for pair in pairs for one, other in zip(*pair, strict=True)),
        "records": len(facts),
        "plain_records": len(said),
    }
    report(result, as_json=arguments.json)


@torch.no_grad()
def _one_by_one(bench: Bench, fact: Fact, edited: State) -> list[float]:
    """The probability of target_new after each prompt, on both sides; target_true's is computed as well."""
    base: Weights = {}
    found = []
    for side in (base, edited.weights):
        for prompt in (fact.prompt, *fact.paraphrases, *fact.neighborhood):
            with bench.resident.view([side]):
                new, _ = (_probability(bench, prompt, target or "") for target in (fact.target_new, fact.target_true))
            found.append(new)
    return found


def _probability(bench: Bench, prompt: str, target: str) -> float:
    row = target_row(bench.loaded.tokenizer, prompt, target)
    logits = bench.loaded.model(torch.tensor([row.ids], device=bench.loaded.device)).logits[0].float()
    logprobs = logits[list(row.reads)].log_softmax(-1)
    return float(logprobs[range(len(row.targets)), list(row.targets)].sum().exp())


def _probabilities(metrics: Metrics) -> Sequence[float]:
    """The same of what was scored in batches."""
    sides = (metrics.before, metrics.after)
    return [
        score.target_new.probability
        for side in sides
        for score in (side.rewrite, *side.paraphrases, *side.neighborhood)
    ]


if __name__ == "__main__":
    main()
