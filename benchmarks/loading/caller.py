"""One client of a load run: its connections, and what it shares with the others."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx

from benchmarks.loading.bad import Bad
from benchmarks.loading.checks import Truth
from benchmarks.loading.tally import Tally
from service.client import Palimpsest
from service.contracts.edits import Fact

SECONDS = 300.0
"""How long an answer is waited for: longer than the service itself waits."""


@dataclass(frozen=True)
class Plan:
    """What is asked for.

    tokens: of every continuation; pause: most seconds from the end of an edit to the next move of the head.
    """

    model: str
    facts: tuple[Fact, ...]
    prompts: tuple[str, ...]
    bad: tuple[Bad, ...]
    method: str
    hparams: Mapping[str, Any]
    tokens: int
    pause: float


@dataclass(frozen=True)
class Shared:
    """What all clients have in common. over: set once nothing new is to be begun."""

    url: str
    plan: Plan
    truth: Truth
    tally: Tally
    over: threading.Event


class Caller:
    """Asks, one request after the other."""

    def __init__(self, number: int, shared: Shared) -> None:
        self.client = Palimpsest(shared.url, timeout=SECONDS, retries=0)
        self.http = httpx.Client(base_url=shared.url, timeout=SECONDS)
        self.draw = Random(number)  # noqa: S311 - nothing here is secret
        self.plan = shared.plan
        self.truth = shared.truth
        self.tally = shared.tally
        self.over = shared.over

    def close(self) -> None:
        """Close the connections."""
        self.client.close()
        self.http.close()
