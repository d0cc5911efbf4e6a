"""Load: edits, readers, rollbacks and bad requests together against one server, and every answer checked.

    python -m benchmarks.load [--seconds 60] [--clients 8] [--model smollm2-135m] [--method ft-m] [--json]

It starts a server of its own. The first client edits without a pause, the second moves the head (rollback, revert,
reapply), the fourth edits too, all others read, generate, and ask badly. It goes on until the seconds are over and
every kind of request was answered. At the end the whole ledger is read, every revision is asked once more, and
`palimpsest fsck` folds every state again. An answer that contradicts another, or what it must be, is printed, and the
exit code is 1; so it is if the server has failed or did not stop by itself, or if more than one request in a hundred
was answered by 503 or 504 (`errors`).

`ratio` is the worker's resident memory at the end over that after the warm-up: the mean of the last tenth of the
samples over that of the tenth that follows the first quarter. 1 is flat. The worker's caches of old revisions
and of deltas are small (--cache-bytes), so that they are full after the warm-up, and the limits of how often one
address may ask are lifted.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import psutil

from benchmarks.bench import changes, method_options, parser, report
from benchmarks.generate_alone import Setup
from benchmarks.generate_served import Server, serving
from benchmarks.loading.bad import ask_badly, bad_requests
from benchmarks.loading.caller import Caller, Plan, Shared
from benchmarks.loading.checks import Truth, WrongAnswerError
from benchmarks.loading.end import check_log, checked_at_rest, settled
from benchmarks.loading.memory import MemoryWatch, growth, memory_figures
from benchmarks.loading.reading import GENERATIONS, READS
from benchmarks.loading.tally import Tally
from benchmarks.loading.writing import MOVES, edit, move
from service.client import Palimpsest
from service.contracts.problem import PROBLEM_TYPE
from service.datasets.sources import SHIPPED, open_dataset
from service.errors import ProblemError

KINDS = ("submit", "edit", *MOVES, *GENERATIONS, *READS, "bad")
"""What a run must have asked."""

WEIGHTS = {"generation": 5, "read": 3, "bad": 1}
"""How often a reader does which."""

CACHE_BYTES = 2**24
"""Of old revisions' weights in the worker, and of deltas: a few of smollm2-135m's by fine-tuning."""

BUSY = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
"""Answers that say: not now, or not in time. All others but a success are wrong."""

MOST_ERRORS = 0.01
"""Of all requests, that may be answered so."""

UNLIMITED = {"rate": "1000000", "burst": "1000000", "max_concurrent": "1000"}
PROMPTS = 16
LATE_SECONDS = 600.0
"""How long a run may go on for the sake of kinds that nobody was answered yet."""

SAMPLES = 240
TELL_SECONDS, LOOK_SECONDS = 30.0, 0.1


def main() -> None:
    """Run, print, and end with 1 if anything was wrong."""
    arguments = _arguments()
    os.environ.pop("REDIS_URL", None)  # the server has one of its own
    found = run(arguments)
    report(found if arguments.json else _told(found), as_json=arguments.json)
    sys.exit(0 if found["sound"] else 1)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Start a server, ask until the time is over, look at what is left, and stop it; all figures."""
    setup = Setup(arguments.model, arguments.dtype, arguments.device, arguments.data_dir)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with serving(setup, folder, cache_bytes=str(arguments.cache_bytes), **UNLIMITED) as server:
            shared = Shared(server.url, _plan(arguments, server.url), Truth(), Tally(), threading.Event())
            with _watched(server, max(1.0, arguments.seconds / SAMPLES)) as samples:
                _ask(shared, arguments)
            seconds = shared.tally.elapsed
            revisions = settled(shared)
        check_log(shared.tally, folder / "log")
        fsck = checked_at_rest(setup, folder)
    figures = shared.tally.figures(seconds)
    errors = sum(figures["errors"].values())
    return {
        "ratio": growth(samples, "worker"),
        "sound": not figures["wrong"] and fsck == 0 and errors <= MOST_ERRORS * figures["requests"],
        "fsck": fsck,
        "seconds": seconds,
        "clients": arguments.clients,
        "model": arguments.model,
        "method": arguments.method,
        "cache_bytes": arguments.cache_bytes,
        "revisions": revisions,
        "edits_applied": len(shared.truth.edits),
        **figures,
        "memory": memory_figures(samples),
        "samples": samples,
        "cpus": os.cpu_count(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
    }


def _ask(shared: Shared, arguments: argparse.Namespace) -> None:
    """All clients at once, until the time is over and every kind was asked."""
    roles = [edit, move, read, edit, *[read] * arguments.clients][: arguments.clients]
    threads = [threading.Thread(target=_drive, args=(number, shared, act)) for number, act in enumerate(roles)]
    for thread in threads:
        thread.start()
    try:
        _wait(shared.tally, arguments.seconds)
    finally:
        shared.over.set()
        for thread in threads:
            thread.join()
    if missing := shared.tally.missing(KINDS):
        shared.tally.wrong(f"nobody was answered: {', '.join(sorted(missing))}")


def _wait(tally: Tally, seconds: float) -> None:
    told = 0.0
    while tally.elapsed < seconds or (tally.missing(KINDS) and tally.elapsed < seconds + LATE_SECONDS):
        if tally.elapsed > told + TELL_SECONDS:
            tally.tell(told)
            told = tally.elapsed
        time.sleep(LOOK_SECONDS)


def _drive(number: int, shared: Shared, act: Callable[[Caller], None]) -> None:
    with closing(Caller(number, shared)) as caller:
        while not shared.over.is_set():
            with _wrong_noted(shared.tally):
                act(caller)


def read(caller: Caller) -> None:
    """One request of a reader: a generation, a look at something, or a bad request."""
    what = caller.draw.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    if what == "bad":
        bad = caller.draw.choice(caller.plan.bad)
        with caller.tally.timed("bad"):
            ask_badly(caller.http, bad)
        caller.tally.refused(bad.name)
    else:
        acts = GENERATIONS if what == "generation" else READS
        acts[caller.draw.choice(list(acts))](caller)


@contextmanager
def _wrong_noted(tally: Tally) -> Iterator[None]:
    try:
        yield
    except WrongAnswerError as error:
        tally.wrong(str(error))
    except ProblemError as error:
        if error.problem.status not in BUSY:
            tally.wrong(f"refused: {error.problem}")
        else:
            tally.error(error.problem.type.removeprefix(PROBLEM_TYPE))
    except Exception as error:  # noqa: BLE001 - whatever else goes wrong is as wrong, and the others go on
        tally.wrong(f"{type(error).__name__}: {error}")


@contextmanager
def _watched(server: Server, every: float) -> Iterator[list[dict[str, float]]]:
    watch = MemoryWatch(server.pid, every)
    watch.start()
    try:
        yield watch.samples
    finally:
        watch.stop()


def _plan(arguments: argparse.Namespace, url: str) -> Plan:
    with Palimpsest(url) as client:
        name = client.model().card.name
    facts = tuple(record.facts[0] for record in open_dataset(SHIPPED).records)
    prompts = tuple(fact.prompt for fact in facts[:: len(facts) // PROMPTS])[:PROMPTS]
    hparams = changes(arguments)
    return Plan(name, facts, prompts, bad_requests(name), arguments.method, hparams, arguments.tokens, arguments.pause)


def _told(found: dict[str, Any]) -> dict[str, Any]:
    """A line each, without what is there to be drawn."""
    told: dict[str, Any] = {}
    for name, value in found.items():
        if name in ("kinds", "memory"):
            told |= {
                key: ", ".join(f"{part} {number:.4g}" for part, number in one.items()) for key, one in value.items()
            }
        elif name not in ("samples", "over_time", "wrongs"):
            told[name] = json.dumps(value) if isinstance(value, dict) else value
    return {**told, "memory_of_machine_gb": psutil.virtual_memory().total / 1e9}


def _arguments() -> argparse.Namespace:
    found = parser(__doc__)
    method_options(found, "ft-m")
    found.add_argument("--seconds", type=float, default=60.0)
    found.add_argument("--clients", type=int, default=8, help="3 at least")
    found.add_argument("--tokens", type=int, default=12, help="of every continuation")
    found.add_argument("--pause", type=float, default=8.0, help="most seconds from an edit's end to a move")
    found.add_argument("--cache-bytes", type=int, default=CACHE_BYTES, help="as PALIMPSEST_CACHE_BYTES")
    arguments = found.parse_args()
    if arguments.clients < 3:  # noqa: PLR2004 - one that edits, one that moves the head, one that reads
        found.error("--clients must be 3 at least")
    return arguments


if __name__ == "__main__":
    main()
