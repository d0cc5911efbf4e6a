"""Asks each operation its share of changed requests, and tells what came of it."""

import copy
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from random import Random
from typing import Any

from tests.service.benchmarking import BODY as BENCHMARK
from tests.service.fuzzing.changes import changed
from tests.service.fuzzing.description import Operation
from tests.service.fuzzing.drafts import Draft
from tests.service.fuzzing.wire import Answer, Wire
from tests.service.stand_in import EIFFEL

SHARES = {"bare": 100, "takes_body": 600, "other": 180}
"""Requests of an operation, by what there is to change."""

SENSIBLE = 0.65
"""How many begin with a request that makes sense, and not with one that was made up."""

DRAWN = 0.05
"""The same where an answer takes long to make."""

PREPARED = 0.2
"""How often there is something new that the next request may mean."""

OPPOSITES = {"revert": "reapply", "reapply": "revert"}

NEWEST = 0.3
"""How often a job's id is that of the last one."""

SENSE: Mapping[str, Sequence[Any]] = {
    "/edits": (EIFFEL, {"facts": [EIFFEL, {**EIFFEL, "prompt": "2. " + EIFFEL["prompt"]}], "method": "rome"}),
    "/evaluations": ({"revision": "head", "facts": "active"}, {"revision": 0, "facts": [EIFFEL]}),
    "/traces": ({name: EIFFEL[name] for name in ("prompt", "subject")},),
    "/benchmarks": (BENCHMARK, {"dataset": "palimpsest", "methods": ["rome"], "n": 2}),
    "/generate": ({"prompt": "Rome is", "max_new_tokens": 4}, {"prompt": ["a", "b"], "stream": True, "n": 2}),
    "/rollback": ({"to": 0}, {"to": "r0"}),
    "/v1/completions": ({"model": "test-model", "prompt": "a", "max_tokens": 4, "stream": True, "logprobs": 2},),
    "/v1/chat/completions": (
        {"model": "test-model@base", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4},
    ),
}
"""Bodies that are accepted."""

QUERIES: Mapping[str, Sequence[tuple[str, str]]] = {
    "/generate": (("prompt", "Rome is"), ("max_new_tokens", "4"), ("min_revision", "0"), ("timeout", "50")),
    "/edits": (("limit", "3"), ("status", "applied")),
    "/benchmarks/{benchmark_id}/report": (("format", "md"),),
    "/traces/{trace_id}.{form}": (("width", "200"),),
    "/revisions/{revision}/adapter": (("rank", "2"),),
}
"""Parameters that are accepted, all of them optional but the prompt."""


@dataclass
class Tally:
    """sent: how many requests have gone out; answers: how many of each hundred of statuses; faults: what was wrong."""

    sent: int = 0
    digests: set[bytes] = field(default_factory=set)
    answers: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class Asking:
    """made_up: drafts of each operation, by its label. times: how many times the usual share is asked."""

    def __init__(self, made_up: Mapping[str, Sequence[Draft]], seed: int, times: int = 1) -> None:
        self._made_up = made_up
        self._seed = seed
        self._times = times
        self._ids: dict[str, deque[str]] = {
            noun: deque(maxlen=60) for noun in ("edit", "evaluation", "trace", "benchmark")
        }

    def share(self, operation: Operation) -> int:
        """How many different requests an operation gets."""
        kind = "takes_body" if operation.takes_body else "bare" if operation.bare else "other"
        return SHARES[kind] * self._times

    def ask(self, wire: Wire, operation: Operation) -> Tally:
        """Send the operation's share, and look at every answer."""
        random, tally = Random(f"{self._seed} {operation.label}"), Tally()  # noqa: S311 - nothing here is secret
        while len(tally.digests) < self.share(operation):
            newest = NEWEST
            if random.random() < PREPARED:
                self._prepare(random, wire, operation)
                newest = 1.0
            draft = changed(random, self._begin(random, operation, newest))
            try:
                answer = wire.ask(draft)
            except (HTTPException, OSError) as error:
                tally.faults.append(f"{error!r} instead of an answer to {draft}")
                return tally
            tally.sent += 1
            tally.digests.add(wire.last)
            tally.answers[answer.status // 100] += 1
            tally.faults += [f"{fault}, of {draft}" for fault in operation.faults(draft, answer)]
            self._learn(answer)
        return tally

    def _prepare(self, random: Random, wire: Wire, operation: Operation) -> None:
        """Make something that the next request may mean: a job to cancel, an edit to revert or to put back."""
        above, _, last = operation.path.rpartition("/")
        if operation.method == "DELETE":
            self._learn(wire.ask(Draft("POST", above, body=SENSE[above][0])))
        elif last in OPPOSITES:
            edit = self._named(random, "edit_id")
            wire.ask(Draft("POST", f"{above}/{OPPOSITES[last]}", {"edit_id": edit}))
            self._ids["edit"].append(edit)

    def _learn(self, answer: Answer) -> None:
        _, noun, *rest = [*answer.headers.get("location", "").split("/"), ""]
        if noun.removesuffix("s") in self._ids and rest:
            self._ids[noun.removesuffix("s")].append(rest[0])

    def _begin(self, random: Random, operation: Operation, newest: float) -> Draft:
        drafts = self._made_up[operation.label]
        draft = random.choice(drafts) if drafts else Draft(operation.method, operation.path)
        sensible = DRAWN if operation.path.endswith(".{form}") else SENSIBLE
        if random.random() < sensible:
            draft = copy.deepcopy(draft)
            draft.headers = {}
            draft.query = [
                one for one in QUERIES.get(operation.path, ()) if random.random() < 0.5 or one[0] == "prompt"
            ]
            draft.body = random.choice(SENSE[operation.path]) if operation.takes_body else None
            draft.places = {name: self._named(random, name, newest) for name in draft.places}
            if operation.takes_body:
                draft.query = []
        return draft

    def _named(self, random: Random, place: str, newest: float = NEWEST) -> str:
        """What exists, to stand at a place in a path."""
        ids = self._ids.get(place.removesuffix("_id"))
        if ids:
            return ids[-1] if random.random() < newest else random.choice(ids)
        return random.choice(
            {"form": ("png", "svg"), "model": ("test-model", "test-model@base")}.get(place, ("0", "r1"))
        )
