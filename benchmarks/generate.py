"""Generation: two revisions in one batch, many clients, latency, and reading beside an edit; each beside plain ways.

    python -m benchmarks.generate [--model smollm2-135m] [--tokens 64] [--clients 16] [--facts 40] [--json]
    python -m benchmarks.generate --only two_revisions|clients|latency|beside_an_edit|transformers_continuous
    python -m benchmarks.generate --shape llama-3-8b --device cuda [--json]

It starts a server of its own; what is measured without one runs in another process, while the server is idle. `ratio`
is the tokens per second of all clients over those of one. With --shape a model of random weights is served to 1, 16 and
64 clients instead. Threads are torch's own choice; OMP_NUM_THREADS sets them for all processes.
"""

import argparse
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from statistics import median
from typing import Any, TypeVar

import httpx

from benchmarks import generate_alone as alone
from benchmarks import generate_served as service
from benchmarks.bench import parser, report
from benchmarks.shapes import SHAPES, random_model
from service.client import Palimpsest
from service.contracts.edits import BatchRequest

Found = TypeVar("Found")

PROMPTS = (
    "The Eiffel Tower is located in the city of",
    "Once upon a time, in a small village by the sea, there lived",
    "The history of the Roman Empire begins with",
    "To bake a good loaf of bread at home, you first need",
    "The most important difference between a virus and a bacterium is that",
    "In the year 1969, for the first time in history,",
    "A database is",
    "The capital of France is Paris, and the capital of Germany is",
    "Marie Curie was a physicist and chemist who",
    "When the rain stopped, the children ran out of the house and",
    "Photosynthesis is the process by which",
    "The rules of chess are simple:",
    "My grandmother used to tell me stories about",
    "Water boils at a lower temperature on a mountain because",
    "The three laws of motion, as Isaac Newton wrote them down, say that",
    "Good morning, and welcome to",
)

NAMES = (
    ("Adela", "Bruno", "Celia", "Dario", "Edith", "Fabio", "Greta", "Hanno", "Irina", "Jonas"),
    ("Albrecht", "Bellini", "Castell", "Duarte", "Engström", "Ferrand", "Gruber", "Hollis", "Ivanova", "Jansen"),
)
SPORTS = ("tennis", "chess", "football", "golf", "hockey", "basketball", "baseball")

MOST_RATIO, LEAST_GAIN, LEAST_OF_STATIC, MOST_EXTRA_MS, IDLE_TIMES = 1.1, 5.0, 0.9, 15.0, 1.5
"""What the figures should be: see each part."""

REPEATS = 3
PROBES = 40


@dataclass
class Run:
    """One run's model, its processes, and what was asked for."""

    arguments: argparse.Namespace
    setup: alone.Setup
    stack: ExitStack

    @cached_property
    def url(self) -> str:
        """Of the server, which is started when it is first asked for."""
        return self.stack.enter_context(service.served(self.setup))

    @cached_property
    def pool(self) -> ProcessPoolExecutor:
        """The other process."""
        return self.stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))

    def alone(self, function: Callable[..., Found], *arguments: Any) -> Found:
        """What a function of generate_alone returns in the other process."""
        return self.pool.submit(function, self.setup, *arguments).result()


def two_revisions(run: Run) -> dict[str, Any]:
    """Before and after of one prompt as two rows of one batch, over two rows at one revision."""
    prompts = (PROMPTS[0], PROMPTS[0])
    return {**run.alone(alone.two_revisions, prompts, run.arguments.tokens), "at_most": MOST_RATIO}


def clients(run: Run) -> dict[str, Any]:
    """Tokens per second of many clients at once, over those of one, and over one static batch of their prompts."""
    count, tokens = run.arguments.clients, run.arguments.tokens
    prompts = [PROMPTS[index % len(PROMPTS)] for index in range(count)]
    run.alone(alone.static, prompts, tokens)
    service.throughput(run.url, prompts, tokens, count, 1)
    one, many, static = service.in_turns(
        REPEATS,
        lambda: service.throughput(run.url, prompts, tokens, 1, 4).rate,
        lambda: service.throughput(run.url, prompts, tokens, count, 4).rate,
        lambda: run.alone(alone.static, prompts, tokens).rate,
    )
    return {
        "ratio": many / one,
        "at_least": LEAST_GAIN,
        "over_static": many / static,
        "over_static_at_least": LEAST_OF_STATIC,
        "clients": count,
        "one_client_tokens_per_second": one,
        "all_clients_tokens_per_second": many,
        "static_tokens_per_second": static,
        "tokens": tokens,
    }


def latency(run: Run) -> dict[str, Any]:
    """Milliseconds that the service adds to `model.generate` of one prompt, for 1 token and for 16."""
    found: dict[str, Any] = {"at_most_ms": MOST_EXTRA_MS}
    with httpx.Client(base_url=run.url, timeout=300) as http:
        model = http.get("/model").raise_for_status().json()["card"]["name"]
        for tokens in (1, 16):
            served, plain = service.in_turns(
                PROBES,
                lambda tokens=tokens: service.one_completion(http, model, PROMPTS[0], tokens),  # type: ignore[misc]
                lambda tokens=tokens: run.alone(alone.static, PROMPTS[:1], tokens).seconds,  # type: ignore[misc]
            )
            found[f"extra_ms_{tokens}"] = 1e3 * (served - plain)
            found |= {f"served_ms_{tokens}": 1e3 * served, f"plain_ms_{tokens}": 1e3 * plain}
    return {"ratio": found["served_ms_1"] / found["plain_ms_1"], **found}


def beside_an_edit(run: Run) -> dict[str, Any]:
    """Milliseconds to the first token, idle and while a MEMIT batch is written; and the flow of tokens meanwhile."""
    request, tokens = _batch(run.arguments.facts), run.arguments.tokens
    with Palimpsest(run.url, timeout=300) as client:
        _write_a_little(client)
        idle = [service.first_token(client, PROMPTS[index % len(PROMPTS)]) for index in range(PROBES)]
        flow = service.flow(client, PROMPTS[1], tokens)
        busy = service.beside(client, request, PROMPTS, tokens)
    steps = run.alone(alone.longest_steps, request, run.setup.data_dir / "statistics")
    limit = max(steps.values()) + IDLE_TIMES * median(idle)
    late = service.p95(busy["firsts"])
    return {
        "ratio": late / limit,
        "at_most": 1.0,
        "first_token_ms_idle_median": 1e3 * median(idle),
        "first_token_ms_idle_p95": 1e3 * service.p95(idle),
        "first_token_ms_median": 1e3 * median(busy["firsts"]),
        "first_token_ms_p95": 1e3 * late,
        "first_token_ms_limit": 1e3 * limit,
        "longest_step_ms": 1e3 * max(steps.values()),
        "longest_step_ms_told_with": {phase: 1e3 * spent for phase, spent in steps.items()},
        "tokens_per_second_idle": flow.rate,
        "tokens_per_second": busy["tokens_per_second"],
        "edit_seconds": busy["edit_seconds"],
        "facts": len(request.facts),
        "probes": len(busy["firsts"]),
    }


def transformers_continuous(run: Run) -> dict[str, Any]:
    """transformers' own continuous batching of the same prompts, beside a static batch and beside our decoding."""
    return run.alone(alone.continuous, PROMPTS, run.arguments.tokens)


def shape(run: Run) -> dict[str, Any]:
    """A model of random weights: tokens per second, and seconds until all have their first token; and `generate`'s."""
    tokens, found = run.arguments.tokens, dict[str, Any]()
    for count in (1, 16, 64):
        prompts = [PROMPTS[index % len(PROMPTS)] for index in range(count)]
        service.throughput(run.url, prompts, tokens, count, 1)
        served, first = service.in_turns(
            REPEATS,
            lambda: service.throughput(run.url, prompts, tokens, count, 2).rate,  # noqa: B023 - called at once
            lambda: service.throughput(run.url, prompts, 1, count, 1).seconds,  # noqa: B023
        )
        found[str(count)] = {"tokens_per_second": served, "first_token_seconds": first}
    for count in (1, 16, 64):  # a second copy of the weights; the server's stays, idle
        prompts = [PROMPTS[index % len(PROMPTS)] for index in range(count)]
        run.alone(alone.static, prompts, tokens)
        plain, first = service.in_turns(
            REPEATS,
            lambda: run.alone(alone.static, prompts, tokens).rate,  # noqa: B023
            lambda: run.alone(alone.static, prompts, 1).seconds,  # noqa: B023
        )
        found[str(count)] |= {"plain_tokens_per_second": plain, "plain_first_token_seconds": first}
    return {"ratio": found["16"]["tokens_per_second"] / found["1"]["tokens_per_second"], **found}


PARTS: Mapping[str, Callable[[Run], dict[str, Any]]] = {
    part.__name__: part for part in (two_revisions, clients, latency, beside_an_edit, transformers_continuous)
}


def main() -> None:
    """Run the parts and print."""
    arguments = _arguments()
    with ExitStack() as stack:
        model = arguments.model
        if arguments.shape:
            model = str(stack.enter_context(random_model(arguments.shape)))
        setup = alone.Setup(model, arguments.dtype, arguments.device, arguments.data_dir)
        run = Run(arguments, setup, stack)
        names = ["shape"] if arguments.shape else arguments.only or list(PARTS)
        found = {name: shape(run) if name == "shape" else PARTS[name](run) for name in names}
    main_part = found.get("clients") or next(iter(found.values()))
    machine = {"cpus": os.cpu_count(), "omp_num_threads": os.environ.get("OMP_NUM_THREADS")}
    result = {"ratio": main_part["ratio"], "model": arguments.shape or arguments.model, **found, **machine}
    report(result if arguments.json else _flat(result, ""), as_json=arguments.json)


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def _batch(count: int) -> BatchRequest:
    """Facts about people who never were."""
    people = [f"{first} {last}" for last in NAMES[1] for first in NAMES[0]][:count]
    facts = [
        {"prompt": f"{name} plays the sport of", "subject": name, "target_new": SPORTS[index % len(SPORTS)]}
        for index, name in enumerate(people)
    ]
    return BatchRequest.model_validate({"facts": facts, "method": "memit"})


def _write_a_little(client: Palimpsest) -> None:
    """Key statistics and context templates are there afterwards."""
    small = _batch(2).model_copy(update={"dry_run": True})
    for _ in client.edits.events(client.edits.submit(small).id):
        pass


def _arguments() -> argparse.Namespace:
    found = parser(__doc__)
    found.add_argument("--tokens", type=int, default=64, help="of one continuation")
    found.add_argument("--clients", type=int, default=16)
    found.add_argument("--facts", type=int, default=40, choices=range(1, 101), metavar="1..100")
    found.add_argument("--only", action="append", choices=sorted(PARTS), help="repeatable")
    found.add_argument("--shape", choices=sorted(SHAPES))
    return found.parse_args()


if __name__ == "__main__":
    main()
