"""Seconds of one ROME edit, beside a plain implementation of the paper's loop, in one run.

python -m benchmarks.rome [--data-dir .palimpsest] [--model smollm2-135m] [--repeat 3] [--json]
"""

import argparse
import json
import logging
import statistics
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import torch

from benchmarks.plain_rome import plain_rome
from service.contracts.edits import Fact
from worker.editing.context import EditContext
from worker.editing.hparams import shipped
from worker.editing.methods.rome import compute
from worker.editing.rank_one import RankOneHparams
from worker.editing.templates import sample
from worker.models.loading import load
from worker.settings import HPARAMS

FACT = Fact(
    prompt="Question: What sport does Lionel Messi play? Answer:", subject="Lionel Messi", target_new="basketball"
)


def main() -> None:
    """Measure, compare and print."""
    arguments = _arguments()
    loaded = load(arguments.model, "auto", "auto", arguments.data_dir)
    values = shipped(HPARAMS, "rome", loaded.config)
    if values is None:
        raise SystemExit(f"no hyperparameters are shipped for {arguments.model}")
    hparams = RankOneHparams.model_validate({**values, "mom2_adjustment": False})
    prefixes = _finish(sample(loaded, hparams.context_template_length_params, hparams.seed))
    hparams = hparams.model_copy(update={"context_templates": prefixes})
    context = EditContext(loaded=loaded, prefixes=_given, covariance=_none)
    steps: dict[str, int] = {}

    def ours() -> None:
        steps["ours"] = sum(step.phase == "value" for step in compute(context, [FACT], hparams))

    def plain() -> None:
        steps["plain"] = plain_rome(loaded, FACT, prefixes, hparams).steps

    pairs = [(_seconds(ours), _seconds(plain)) for _ in range(arguments.repeat)]
    mine, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    result = {
        "ratio": statistics.median(theirs_once / mine_once for mine_once, theirs_once in pairs),
        "seconds_per_edit": mine,
        "seconds_per_step": mine / steps["ours"],
        "plain_seconds_per_edit": theirs,
        "plain_seconds_per_step": theirs / steps["plain"],
        "steps": steps["ours"],
        "templates": len(prefixes),
        "layer": hparams.layers[0],
        "matmul_gflops": _matmul_gflops(),
        "threads": torch.get_num_threads(),
    }
    if arguments.json:
        print(json.dumps(result))
    else:
        print(f"one edit: {mine:.2f} s ({result['seconds_per_step']:.3f} s a step, {steps['ours']} steps)")
        print(f"plain loop: {theirs:.2f} s ({result['plain_seconds_per_step']:.3f} s a step, {steps['plain']} steps)")
        print(f"ratio: {result['ratio']:.1f} x at {result['matmul_gflops']:.0f} GFLOP/s of float32 matrix products")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--data-dir", type=Path, default=Path(".palimpsest"))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    logging.basicConfig(level=logging.ERROR)
    return parser.parse_args()


def _finish(steps: Generator[Any, None, Any]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def _given(hparams: Any) -> Generator[Any, None, Any]:
    yield from ()
    return hparams.context_templates


def _none(*_: Any) -> Generator[Any, None, Any]:
    yield from ()
    return None


def _seconds(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def _matmul_gflops(size: int = 1536) -> float:
    left, right = torch.randn(size, size), torch.randn(size, size)
    seconds = min(_seconds(lambda: left @ right) for _ in range(5))
    return 2 * size**3 / seconds / 1e9


if __name__ == "__main__":
    main()
