"""The command that proposes layers, against the running API and a stand-in that knows some facts."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.contracts.edits import Fact
from service.contracts.jobs import JobStatus
from service.contracts.scores import Summaries
from service.contracts.traces import Effects, Kind, Traced
from tests.service.acting import acting
from tests.service.conftest import Run
from tests.service.stand_in import StandIn, evaluation_result
from tests.service.tracing import carry_out, traces_of

FACTS = [
    {"known_id": number, "subject": f"Tower {number}", "prompt": f"Tower {number} is in", "attribute": "Paris"}
    for number in range(6)
]
KNOWN = {0, 2, 3, 5}


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Facts in the form of known_1000."""
    path = tmp_path / "known.json"
    path.write_text(json.dumps(FACTS))
    return str(path)


def score(worker: StandIn, evaluation_id: str) -> None:
    """Carry out an evaluation in which the model says the answers of some of the facts."""
    worker.evaluations.take_up(evaluation_id)
    facts = worker.evaluations.get(evaluation_id).request.facts
    found = evaluation_result([(fact, None) for fact in facts if isinstance(fact, Fact)])
    scored = []
    for fact in found.facts:
        accuracy = float(int(fact.subject.split()[1]) in KNOWN)
        target = fact.after.target_new.model_copy(update={"accuracy": accuracy})
        scored.append(fact.model_copy(update={"after": fact.after.model_copy(update={"target_new": target})}))
    summary = Summaries(before=found.summary.before, after=found.summary.after)
    result = found.model_copy(update={"facts": tuple(scored), "summary": summary})
    worker.evaluations.settle(evaluation_id, 0)
    worker.evaluations.complete(evaluation_id, result)


def suggest(ask: Run, worker: StandIn, *arguments: str) -> tuple[int, str, str]:
    effects = {Kind.MLP: Effects(mean=((0.1, 0.2, 0.4, 0.3, 0.0),))}

    def trace(trace_id: str) -> Any:
        carry_out(worker, trace_id, effects=effects)

    with (
        acting(worker, lambda job_id: score(worker, job_id), worker.evaluations),
        acting(worker, trace, traces_of(worker)),
    ):
        return ask("suggest-hparams", *arguments)


def test_layers_are_proposed_from_the_facts_that_the_model_knows(ask: Run, worker: StandIn, file: str) -> None:
    code, output, _ = suggest(ask, worker, "--facts", file, "--n", "3", "--samples", "4", "--window", "2")
    assert code == 0
    assert yaml.safe_load(output) == {"layers": [2], "v_loss_layer": 4}
    assert "3 facts" in output
    assert "# layers: [1, 2, 3]" in output
    traces, _ = traces_of(worker).newest(None, 10)
    whole = [traces_of(worker).get(trace.id).request for trace in reversed(traces)]
    assert [request.subject for request in whole] == ["Tower 0", "Tower 2", "Tower 3"]
    for request in whole:
        assert (request.target, request.kinds, request.tokens) == ("Paris", (Kind.MLP,), Traced.LAST_SUBJECT)
        assert (request.samples, request.window, request.revision) == (4, 2, "base")
        assert request.noise_subjects == ("Tower 0", "Tower 2", "Tower 3"), "the paper's scale: all facts' subjects"


def test_as_json(ask: Run, worker: StandIn, file: str) -> None:
    code, output, _ = suggest(ask, worker, "--facts", file, "--json")
    found = json.loads(output)
    assert code == 0
    assert (found["facts"], found["peak"], found["layers"]) == (len(KNOWN), 2, [1, 2, 3])
    assert found["effects"] == [0.1, 0.2, 0.4, 0.3, 0.0]


def test_where_no_fact_is_known_there_is_nothing_to_propose(ask: Run, worker: StandIn, tmp_path: Path) -> None:
    path = tmp_path / "unknown.json"
    path.write_text(json.dumps([FACTS[1], FACTS[4]]))
    code, _, errors = suggest(ask, worker, "--facts", str(path))
    assert (code, "knows none of these facts" in errors) == (2, True)


@pytest.mark.usefixtures("worker")
def test_facts_that_cannot_be_read_are_told(ask: Run) -> None:
    code, _, errors = ask("suggest-hparams", "--facts", "/nowhere/facts.json")
    assert (code, "cannot be read" in errors) == (2, True)


def test_a_trace_that_ends_otherwise_ends_the_command(ask: Run, worker: StandIn, file: str) -> None:
    traces = traces_of(worker)
    with (
        acting(worker, lambda job_id: score(worker, job_id), worker.evaluations),
        acting(worker, traces.cancel, traces),
    ):
        code, output, _ = ask("suggest-hparams", "--facts", file)
    assert (code, output) == (1, "")
    assert [trace.status for trace in traces.newest(None, 5)[0]] == [JobStatus.CANCELLED]
