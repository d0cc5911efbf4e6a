"""Seconds of one ROME edit, beside a plain implementation of the paper's loop, in one run.

python -m benchmarks.rome [--data-dir .palimpsest] [--model smollm2-135m] [--repeat 3] [--json]
"""

import statistics
from typing import Any

import torch

from benchmarks.bench import Bench, gflops, parser, report, seconds
from benchmarks.plain import plain_rome
from service.contracts.edits import Fact
from worker.editing.method import discover

FACT = Fact(
    prompt="Question: What sport does Lionel Messi play? Answer:", subject="Lionel Messi", target_new="basketball"
)


def main() -> None:
    """Measure, compare and print. Both stop where the loss does: seconds per edit and per step are told apart."""
    options = parser(__doc__)
    options.add_argument("--repeat", type=int, default=3)
    arguments = options.parse_args()
    bench = Bench(arguments)
    method = discover()["rome"]
    hparams = bench.hparams(method, {"mom2_adjustment": False})
    hparams = hparams.model_copy(update={"context_templates": bench.prefixes(hparams)})
    steps = {"ours": _steps(bench, hparams)}

    def plain() -> None:
        steps["plain"] = plain_rome(bench.loaded, FACT, hparams.context_templates, hparams).steps

    pairs = [
        (seconds(lambda: bench.compute(method, [FACT], hparams, bench.base)), seconds(plain))
        for _ in range(arguments.repeat)
    ]
    mine, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    a_step = statistics.median(one / steps["ours"] for one, _ in pairs)
    a_plain_step = statistics.median(one / steps["plain"] for _, one in pairs)
    result = {
        "ratio": a_plain_step / a_step,
        "seconds_per_edit": mine,
        "seconds_per_step": a_step,
        "plain_seconds_per_edit": theirs,
        "plain_seconds_per_step": a_plain_step,
        "steps": steps["ours"],
        "plain_steps": steps["plain"],
        "templates": len(hparams.context_templates),
        "layer": hparams.layers[0],
        "compute_dtype": str(bench.dtype or bench.loaded.dtype).removeprefix("torch."),
        "float32_gflops": gflops(device=bench.loaded.device),
        "bfloat16_gflops": gflops(torch.bfloat16, bench.loaded.device),
        "threads": torch.get_num_threads(),
    }
    report(result, as_json=arguments.json)


def _steps(bench: Bench, hparams: Any) -> int:
    """How many steps our edit evaluates; a warm-up too."""
    steps = discover()["rome"].compute(bench.context(bench.base), [FACT], hparams)
    return sum(step.phase == "value" for step in steps)


if __name__ == "__main__":
    main()
