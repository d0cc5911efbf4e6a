"""Seconds a fact of a MEMIT batch, beside a plain implementation of the paper's loop, in one run.

    python -m benchmarks.memit FILE [--n 100] [--plain 3] [--corpus TEXT] [--set NAME=VALUE] [--json]

FILE is CounterFact in its original schema; the plain loop writes the first --plain of the facts, since it takes long.
Key statistics are computed before the clock starts.
"""

import resource
from collections import Counter
from pathlib import Path

import torch

from benchmarks.bench import Bench, changes, counterfact, finish, gflops, method_options, parser, report, seconds
from benchmarks.plain import plain_memit
from worker.editing.method import discover
from worker.engine.notes import Notes


def main() -> None:
    """Measure, compare and print."""
    options = parser(__doc__)
    method_options(options, "memit")
    options.add_argument("file", type=Path)
    options.add_argument("--n", type=int, default=100)
    options.add_argument("--plain", type=int, default=3)
    arguments = options.parse_args()
    bench = Bench(arguments)
    method = discover()["memit"]
    hparams = bench.hparams(method, changes(arguments))
    hparams = hparams.model_copy(update={"context_templates": bench.prefixes(hparams)})
    facts = list(counterfact(arguments.file))[: arguments.n]
    context = bench.context(bench.base)
    covariances = finish(context.covariances(hparams.layers, hparams))
    for covariance in covariances.values():
        finish(covariance.factored())
    notes = Notes()
    steps: Counter[str] = Counter()

    def ours() -> None:
        for step in notes.taken(method.compute(context, facts, hparams), "update"):
            steps[step.phase] += 1

    def plain() -> None:
        _, taken = plain_memit(context, facts[: arguments.plain], hparams.context_templates, covariances, hparams)
        steps["plain"] = sum(taken)

    mine = seconds(ours) / len(facts)
    theirs = seconds(plain) / arguments.plain
    result = {
        "ratio": theirs / mine,
        "facts": len(facts),
        "seconds_per_fact": mine,
        "plain_facts": arguments.plain,
        "plain_seconds_per_fact": theirs,
        "plain_steps_per_fact": steps["plain"] / arguments.plain,
        "phases": {phase: round(spent, 3) for phase, spent in notes.seconds.items()},
        "peak_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "compute_dtype": str(bench.dtype or bench.loaded.dtype).removeprefix("torch."),
        "float32_gflops": gflops(device=bench.loaded.device),
        "bfloat16_gflops": gflops(torch.bfloat16, bench.loaded.device),
        "threads": torch.get_num_threads(),
    }
    report(result, as_json=arguments.json)


if __name__ == "__main__":
    main()
