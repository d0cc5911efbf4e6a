"""What a shell completes by asking the server: revisions, ids and methods. Where none answers at once, nothing."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain, islice
from typing import Any

import typer

from service.client import Palimpsest
from service.connection import SERVER
from service.errors import ProblemError
from service.jobcalls import JobCalls

SECONDS = 1.0
"""How long a shell may be kept waiting."""

MOST = 20
"""Of each kind, the newest."""

Words = list[tuple[str, str]]
"""Each with what it stands for."""


def revisions(ctx: typer.Context, incomplete: str) -> Words:
    """`base`, `head`, and the newest revisions."""
    return _fitting([("base", "the model as it was"), ("head", "the newest"), *_asked(ctx, _revisions)], incomplete)


def edits(ctx: typer.Context, incomplete: str) -> Words:
    """The newest edits."""
    return _fitting(_asked(ctx, _edits), incomplete)


def jobs(ctx: typer.Context, incomplete: str) -> Words:
    """The newest jobs of all kinds."""
    return _fitting(_asked(ctx, _jobs), incomplete)


def revisions_and_jobs(ctx: typer.Context, incomplete: str) -> Words:
    """Both."""
    return _fitting(_asked(ctx, lambda client: chain(_revisions(client), _jobs(client))), incomplete)


def methods(ctx: typer.Context, incomplete: str) -> Words:
    """The methods of the resident model."""
    return _fitting(_asked(ctx, _methods), incomplete)


def _revisions(client: Palimpsest) -> Iterator[tuple[str, str]]:
    return ((f"r{one.revision}", one.kind) for one in client.revisions.page().revisions)


def _edits(client: Palimpsest) -> Iterator[tuple[str, str]]:
    return ((one.id, f"{one.status}: {one.request.facts[0].prompt}") for one in client.edits.page().edits)


def _jobs(client: Palimpsest) -> Iterator[tuple[str, str]]:
    yield from _edits(client)
    kinds: tuple[JobCalls[Any, Any, Any], ...] = (client.evaluations, client.traces, client.benchmarks)
    for calls in kinds:
        yield from ((one.id, f"{one.noun}, {one.status}") for one in islice(calls.all(at_once=MOST), MOST))


def _methods(client: Palimpsest) -> Iterator[tuple[str, str]]:
    return ((one.name, one.title) for one in client.methods().methods)


def _asked(ctx: typer.Context, ask: Callable[[Palimpsest], Iterator[tuple[str, str]]]) -> Words:
    server = ctx.params.get("server") or os.environ.get("PALIMPSEST_SERVER") or SERVER
    with suppress(ProblemError, ValueError), Palimpsest(server, timeout=SECONDS, retries=0) as client:
        return list(ask(client))
    return []


def _fitting(words: Words, incomplete: str) -> Words:
    return [word for word in words if word[0].startswith(incomplete)]
