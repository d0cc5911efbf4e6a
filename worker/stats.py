"""Compute key statistics ahead of the edits that need them; `python -m worker.stats`, behind `palimpsest stats`."""

import argparse
import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from types import FrameType
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers.utils import logging as transformers_logging

from worker.editing.hparams import CovarianceHparams, shipped
from worker.editing.method import discover
from worker.editing.progress import Step, Steps
from worker.engine.resident import Resident
from worker.errors import EditError, WorkerError
from worker.models.loaded import LoadedModel
from worker.models.loading import load
from worker.settings import Settings
from worker.statistics.store import StatisticsStore

STOPPED = 130
"""The exit code of a pass that a signal ended."""

LINE_SECONDS = 10.0
"""How often progress is written where it is not a terminal that reads it."""


class Stopping:
    """Notes the signals that ask to stop, so that a pass ends between two steps and can be taken up again."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a signal handler
        self.asked = True


def main(arguments: Sequence[str] | None = None) -> int:
    """Compute what is missing; returns the exit code: 0, STOPPED, or 1 with the reason in plain words."""
    logging.basicConfig(level=logging.INFO, format="stats: %(message)s", stream=sys.stderr)
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    stopping = Stopping()
    try:
        asked = _parsed(arguments)
        console = Console(stderr=asked.json, soft_wrap=True, highlight=False, markup=False)
        return _run(Settings(), asked, console, stopping)
    except ValidationError as error:
        reason = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
    except (EditError, WorkerError) as error:
        reason = str(error)
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(reason, style="red")
    return 1


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="palimpsest stats")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--layers", type=lambda text: [int(layer) for layer in text.split(",")])
    which.add_argument("--method")
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--source")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


def _run(settings: Settings, asked: argparse.Namespace, console: Console, stopping: Stopping) -> int:
    begin = time.monotonic()
    loaded = load(settings.model, settings.dtype, settings.device, settings.data_dir)
    layers, hparams = _wanted(settings, asked, loaded)
    directory = settings.data_dir / "statistics"
    store = StatisticsStore(loaded, Resident(loaded).base_checksum, directory, settings.corpus, settings.stats_dir)
    console.print(f"{loaded.name} loaded on {loaded.device} in {time.monotonic() - begin:.1f} s")
    begin = time.monotonic()
    files = _followed(store.prepare(layers, hparams), console, stopping)
    seconds = time.monotonic() - begin
    if files is None:
        console.print(f"Stopped after {seconds:.1f} s. What is done is kept: the same command goes on from there.")
        return STOPPED
    if asked.json:
        done = {layer: str(path) for layer, path in files.items()}
        sys.stdout.write(json.dumps({"model": loaded.name, "layers": done, "seconds": seconds}) + "\n")
    else:
        for layer, path in files.items():
            console.print(f"layer {layer}: {path}")
        console.print(f"{len(files)} layer{'' if len(files) == 1 else 's'} in {seconds:.1f} s")
    return 0


def _wanted(
    settings: Settings, asked: argparse.Namespace, loaded: LoadedModel
) -> tuple[Sequence[int], CovarianceHparams]:
    """The layers asked for, or the method's own, and of which text how much."""
    changes = {"mom2_dataset": asked.source, "mom2_n_tokens": asked.tokens}
    changes = {name: value for name, value in changes.items() if value is not None}
    if asked.layers is not None:
        return asked.layers, CovarianceHparams.model_validate(changes)
    methods = discover()
    if asked.method not in methods:
        raise WorkerError(f"There is no method {asked.method}. There are: {', '.join(methods)}.")
    kind: Any = methods[asked.method].hparams
    if not issubclass(kind, CovarianceHparams):
        raise WorkerError(f"{asked.method} uses no key statistics; there is nothing to compute.")
    values: Mapping[str, Any] | None = shipped(settings.hparams_dir, asked.method, loaded.config)
    if values is None:
        raise WorkerError(f"No hyperparameters of {asked.method} are shipped for {loaded.name}. Name its --layers.")
    hparams: Any = kind.model_validate({**values, **changes})
    return hparams.layers, hparams


def _followed(steps: Steps[Any], console: Console, stopping: Stopping) -> Any:
    """The result of a pass; None if it was stopped."""
    if not console.is_terminal:
        return _driven(steps, Lines(console), stopping)
    columns = (TextColumn("{task.completed:,} of {task.total:,} tokens"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bars:
        bar = bars.add_task("statistics", total=0)

        def show(step: Step) -> None:
            bars.update(bar, completed=step.step, total=step.steps)

        return _driven(steps, show, stopping)


class Lines:
    """Progress as a line every so often."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._due = time.monotonic()

    def __call__(self, step: Step) -> None:
        """Write a line if it is time."""
        if step.steps and time.monotonic() >= self._due:
            self._console.print(f"{step.step} of {step.steps} tokens")
            self._due = time.monotonic() + LINE_SECONDS


def _driven(steps: Steps[Any], show: Callable[[Step], None], stopping: Stopping) -> Any:
    with closing(steps):
        while not stopping.asked:
            try:
                show(next(steps))
            except StopIteration as end:
                return end.value
    return None


if __name__ == "__main__":
    sys.exit(main())
