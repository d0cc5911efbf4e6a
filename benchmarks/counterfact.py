"""Quality of one-at-a-time edits on CounterFact records, by method and hyperparameters, with 95 % intervals.

    python -m benchmarks.counterfact FILE [--known | --likelier] [--n 32] [--set layers=[9]] [--corpus TEXT] [--json]

FILE is CounterFact in its original schema. --known keeps the records whose target_true is the model's top-1 answer;
--likelier those where the model gives target_true more probability than target_new (the papers' setting).
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from service.contracts.edits import Fact
from service.contracts.scores import Metrics
from worker.editing.context import EditContext
from worker.editing.hparams import CovarianceHparams, shipped
from worker.editing.method import discover
from worker.editing.templates import sample
from worker.engine.resident import Resident
from worker.engine.state import State
from worker.evaluation.metrics import measure
from worker.models.loading import load
from worker.settings import HPARAMS
from worker.statistics import corpus, moments

NAMES = ("ES", "PS", "NS", "S", "EA", "PA", "NA", "rewrite_acc", "rephrase_acc", "neighborhood_acc")


def main() -> None:
    """Edit every record on the base model, score it, and print the means."""
    arguments = _arguments()
    loaded = load(arguments.model, "auto", "auto", arguments.data_dir)
    resident = Resident(loaded)
    method = discover()[arguments.method]
    changes = {key: yaml.safe_load(value) for key, value in (item.split("=", 1) for item in arguments.set)}
    hparams = method.hparams.model_validate({**(shipped(HPARAMS, method.name, loaded.config) or {}), **changes})
    prefixes = _finish(sample(loaded, hparams.context_template_length_params, hparams.seed))
    hparams = hparams.model_copy(update={"context_templates": prefixes})

    def covariance(layer: int, wanted: CovarianceHparams) -> Generator[Any, None, Any]:
        source = arguments.corpus or "self"
        path = moments.cache_path(
            arguments.data_dir / "statistics", resident.base_checksum, layer, source, wanted.mom2_n_tokens
        )
        if not path.is_file():
            tokens = wanted.mom2_n_tokens
            batches = (
                corpus.from_file(loaded, Path(source), tokens)
                if arguments.corpus
                else corpus.from_model(loaded, tokens, seed=0)
            )
            moments.save(path, *(yield from moments.second_moment(loaded, layer, batches, tokens)))
        return moments.load(path)

    context = EditContext(loaded=loaded, prefixes=_given, covariance=covariance)
    results: list[Metrics] = []
    seconds: list[float] = []
    for fact in _chosen(resident, arguments):
        begin = time.perf_counter()
        weights = State.fold(resident, [_finish(method.compute(context, [fact], hparams))]).weights
        seconds.append(time.perf_counter() - begin)
        results.append(_measured(resident, fact, weights))
        print(f"\r{len(results)} edits, {statistics.mean(seconds):.1f} s each", end="", file=sys.stderr)
    print(file=sys.stderr)
    _report(results, seconds, changes, as_json=arguments.json)


def _chosen(resident: Resident, arguments: argparse.Namespace) -> Iterator[Fact]:
    left = arguments.n
    for fact in _facts(arguments.file):
        if left == 0:
            return
        before = _measured(resident, fact.model_copy(update={"paraphrases": (), "neighborhood": ()}), {}).before.rewrite
        assert before.target_true is not None  # noqa: S101 - CounterFact always has one
        if arguments.known and before.target_true.accuracy < 1:
            continue
        if arguments.likelier and before.target_true.nll >= before.target_new.nll:
            continue
        left -= 1
        yield fact


def _facts(path: Path) -> Iterator[Fact]:
    for record in json.loads(path.read_text(encoding="utf-8")):
        rewrite = record["requested_rewrite"]
        yield Fact(
            prompt=rewrite["prompt"].replace("{}", rewrite["subject"]),
            subject=rewrite["subject"],
            target_new=rewrite["target_new"]["str"],
            target_true=rewrite["target_true"]["str"],
            paraphrases=tuple(prompt.rstrip() for prompt in record["paraphrase_prompts"]),
            neighborhood=tuple(prompt.rstrip() for prompt in record["neighborhood_prompts"]),
        )


def _measured(resident: Resident, fact: Fact, weights: Any) -> Metrics:
    metrics: Metrics = _finish(
        measure(resident.loaded, fact, lambda rows: resident.view([{}] * rows + [weights] * rows))
    )
    return metrics


def _report(results: Sequence[Metrics], seconds: Sequence[float], changes: dict[str, Any], *, as_json: bool) -> None:
    scores: dict[str, Any] = {}
    for name in NAMES:
        before = [getattr(metrics.before.summary, name) for metrics in results]
        after = [getattr(metrics.after.summary, name) for metrics in results]
        scores[name] = {"before": statistics.mean(before), "after": statistics.mean(after), "ci95": _interval(after)}
    row = {"n": len(results), "seconds_per_edit": statistics.mean(seconds), "hparams": changes, "scores": scores}
    if as_json:
        print(json.dumps({"ratio": scores["S"]["after"], **row}))
        return
    print(f"{len(results)} edits with {changes or 'the shipped hyperparameters'}, {row['seconds_per_edit']:.1f} s each")
    for name, score in scores.items():
        low, high = score["ci95"]
        before, after = 100 * score["before"], 100 * score["after"]
        print(f"{name:>17}  {before:6.1f} -> {after:6.1f}  [{100 * low:.1f}, {100 * high:.1f}]")


def _interval(values: Sequence[float], draws: int = 2000) -> tuple[float, float]:
    chance = random.Random(0)  # noqa: S311 - a bootstrap, not a secret
    means = sorted(statistics.mean(chance.choices(values, k=len(values))) for _ in range(draws))
    return means[int(0.025 * draws)], means[int(0.975 * draws)]


def _finish(steps: Generator[Any, None, Any]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def _given(hparams: Any) -> Generator[Any, None, Any]:
    yield from ()
    return hparams.context_templates


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--method", default="rome")
    parser.add_argument("--data-dir", type=Path, default=Path(".palimpsest"))
    parser.add_argument("--corpus")
    parser.add_argument("--known", action="store_true")
    parser.add_argument("--likelier", action="store_true")
    parser.add_argument("--n", type=int, default=32)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
