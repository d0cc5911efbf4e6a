"""The command that proposes which layers to edit, from traces of many facts that the model knows."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from service.client import Palimpsest
from service.commands.calls import carry_out, connect, exit_unless_well
from service.commands.options import JsonOption, RevisionOption, ServerOption
from service.commands.reading import read_facts
from service.connection import SERVER
from service.contracts.edits import Fact
from service.contracts.evaluations import EvaluationRequest
from service.contracts.traces import Kind, Traced, TraceRequest, TraceResult
from service.datasets.sources import SHIPPED
from service.proposal import as_yaml, propose

AT_ONCE = 50
"""Facts asked for together, until enough are known."""

FactsOption = Annotated[
    str, typer.Option(metavar="NAME|FILE", help="Facts that the model may know: a data set, such as known_1000.json.")
]


def suggest_hparams(
    facts: FactsOption = SHIPPED,
    n: Annotated[int, typer.Option("--n", min=1, help="Facts to average over, of those that the model knows.")] = 20,
    samples: Annotated[int, typer.Option(help="Runs of each with different noise.")] = 10,
    window: Annotated[
        int | None, typer.Option(help="MLP layers restored at once; by default 10 for 48 layers.")
    ] = None,
    revision: RevisionOption = "base",
    as_json: JsonOption = False,
    server: ServerOption = SERVER,
) -> None:
    """Propose layers to edit as YAML: where restoring the MLP at the subject's last token brings most answers back."""
    asked = list(map(_as_it_is, read_facts(facts, "--facts")))
    with connect(server) as client:
        known = _known(client, asked, revision, n)
        if not known:
            raise typer.BadParameter("the model knows none of these facts; give others", param_hint="--facts")
        subjects = tuple(dict.fromkeys(fact.subject for fact in known))
        results = [
            _traced(client, f"trace {number} of {len(known)}", _request(fact, subjects, samples, window, revision))
            for number, fact in enumerate(known, 1)
        ]
    proposal = propose(results)
    typer.echo(json.dumps(asdict(proposal)) if as_json else as_yaml(proposal))


def _as_it_is(fact: Fact) -> Fact:
    """The fact with the true answer as its target; the known ones have no other."""
    return Fact(prompt=fact.prompt, subject=fact.subject, target_new=fact.target_true or fact.target_new)


def _request(fact: Fact, subjects: tuple[str, ...], samples: int, window: int | None, revision: str) -> TraceRequest:
    return TraceRequest(
        revision=revision,
        prompt=fact.prompt,
        subject=fact.subject,
        target=fact.target_new,
        kinds=(Kind.MLP,),
        tokens=Traced.LAST_SUBJECT,
        samples=samples,
        noise_subjects=subjects,
        window=window,
    )


def _known(client: Palimpsest, facts: Sequence[Fact], revision: str, n: int) -> list[Fact]:
    """The first n facts whose answer is what the model says."""
    found: list[Fact] = []
    for begin in range(0, len(facts), AT_ONCE):
        if len(found) >= n:
            break
        found += _those_known(client, tuple(facts[begin : begin + AT_ONCE]), revision)
    return found[:n]


def _those_known(client: Palimpsest, facts: tuple[Fact, ...], revision: str) -> Iterator[Fact]:
    request = EvaluationRequest(revision=revision, facts=facts)
    evaluation = carry_out(client.evaluations, request, "which facts are known", wait=True)
    exit_unless_well(evaluation)
    scores = evaluation.result.facts if evaluation.result else ()
    return (fact for fact, score in zip(facts, scores, strict=True) if score.after.target_new.accuracy == 1)


def _traced(client: Palimpsest, label: str, request: TraceRequest) -> TraceResult:
    trace = carry_out(client.traces, request, label, wait=True)
    exit_unless_well(trace)
    assert trace.result is not None  # noqa: S101 - a completed trace has one
    return trace.result
