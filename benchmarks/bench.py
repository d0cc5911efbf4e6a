"""What the benchmarks share: the model and its statistics without a server, facts of CounterFact, and fair timing."""

import argparse
import json
import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from service.contracts.edits import Fact
from service.contracts.scores import Metrics
from service.datasets.sources import open_dataset
from worker.editing.context import EditContext
from worker.editing.delta import WeightDelta
from worker.editing.hparams import shipped
from worker.editing.method import Method, discover
from worker.editing.progress import within
from worker.editing.templates import sample
from worker.engine.resident import Resident
from worker.engine.state import State
from worker.evaluation.metrics import measure
from worker.models.loading import load
from worker.models.speed import compute_dtype
from worker.settings import HPARAMS
from worker.statistics.store import StatisticsStore


class Bench:
    """A loaded model that is edited without a server.

    keys: those that the edits made so far were solved for, by layer.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.loaded = load(arguments.model, arguments.dtype, arguments.device, arguments.data_dir)
        self.resident = Resident(self.loaded)
        self.dtype = compute_dtype(self.loaded, arguments.compute_dtype)
        self.keys: dict[int, list[Tensor]] = {}
        self._statistics = StatisticsStore(
            self.loaded, self.resident.base_checksum, arguments.data_dir / "statistics", arguments.corpus
        )
        self._prefixes: dict[Any, Sequence[str]] = {}

    @property
    def base(self) -> State:
        """The state without edits."""
        return State(self.resident, {})

    def hparams(self, method: Method, changes: Mapping[str, Any]) -> Any:
        """The shipped hyperparameters with some of them changed."""
        return method.hparams.model_validate({**(shipped(HPARAMS, method.name, self.loaded.config) or {}), **changes})

    def compute(self, method: Method, facts: Sequence[Fact], hparams: Any, state: State) -> WeightDelta:
        """The delta of some facts on a state."""
        delta: WeightDelta = finish(within(state.view({}), method.compute(self.context(state), facts, hparams)))
        return delta

    def context(self, state: State) -> EditContext:
        """What a method computes with."""
        return EditContext(
            self.loaded, self._templates, self._statistics.covariances, state.view, self._known, self.dtype
        )

    def remember(self, delta: WeightDelta) -> None:
        """Count a delta among those made so far."""
        for layer, keys in delta.keys.items():
            self.keys.setdefault(layer, []).append(keys)

    def measured(self, facts: Sequence[Fact], state: State) -> list[Metrics]:
        """Scores of facts on the base and on a state."""
        found: list[Metrics] = finish(
            measure(self.loaded, facts, lambda rows: self.resident.view([{}] * rows + [state.weights] * rows))
        )
        return found

    def prefixes(self, hparams: Any) -> Sequence[str]:
        """The context templates that an edit with these hyperparameters uses."""
        return finish(self._templates(hparams))  # type: ignore[no-any-return]

    def _templates(self, hparams: Any) -> Generator[Any, None, Sequence[str]]:
        if hparams.context_templates is not None:
            return hparams.context_templates  # type: ignore[no-any-return]
        key = (hparams.context_template_length_params, hparams.seed)
        if key not in self._prefixes:
            self._prefixes[key] = yield from sample(self.loaded, *key)
        return self._prefixes[key]

    def _known(self, layer: int) -> Tensor:
        width = self.resident.base_of_layer(layer).shape[1]
        return torch.cat([torch.empty(width, 0), *self.keys.get(layer, ())], dim=1)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    logging.basicConfig(level=logging.ERROR)
    found = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    found.add_argument("--model", default="smollm2-135m")
    found.add_argument("--dtype", default="auto")
    found.add_argument("--device", default="auto")
    found.add_argument("--compute-dtype", default="auto", help="of value optimisations, as PALIMPSEST_COMPUTE_DTYPE")
    found.add_argument("--data-dir", type=Path, default=Path(".palimpsest"))
    found.add_argument("--corpus", type=Path, help="a text file for mom2_dataset=corpus")
    found.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    return found


def method_options(found: argparse.ArgumentParser, method: str) -> None:
    """The options that name a method and change its hyperparameters."""
    found.add_argument("--method", default=method, choices=sorted(discover()))
    found.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a hyperparameter, as in YAML")


def changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """What --set changes."""
    return {key: yaml.safe_load(value) for key, value in (item.split("=", 1) for item in arguments.set)}


def counterfact(path: Path) -> list[Fact]:
    """Records of CounterFact in its original schema, by case_id."""
    records = open_dataset(str(path), "counterfact").records
    return [record.facts[0] for record in sorted(records, key=lambda record: record.case_id)]


def chosen(bench: Bench, facts: Sequence[Fact], known: bool, n: int) -> list[Fact]:
    """The first n facts where the base gives target_true more probability than target_new.

    known: where target_true is its top-1 answer, instead.
    """
    bare = [fact.model_copy(update={"paraphrases": (), "neighborhood": ()}) for fact in facts]
    found = []
    for fact, metrics in zip(facts, bench.measured(bare, bench.base), strict=True):
        before = metrics.before.rewrite
        assert before.target_true is not None  # noqa: S101 - CounterFact always has one
        if before.target_true.accuracy == 1 if known else before.target_true.nll < before.target_new.nll:
            found.append(fact)
    return found[:n]


def finish(steps: Generator[Any, None, Any]) -> Any:
    """The result of a computation that yields between its steps."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def seconds(action: Callable[[], object]) -> float:
    """How long it takes."""
    begin = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def gflops(dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu", size: int = 1536) -> float:
    """The machine's rate of matrix products, GFLOP/s."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = min(seconds(lambda: left @ right) for _ in range(10))
    return 2 * size**3 / best / 1e9


def report(result: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a benchmark's figures, a line each or as one JSON object."""
    if as_json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name}: {value:.3g}" if isinstance(value, float) else f"{name}: {value}")
