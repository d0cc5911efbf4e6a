"""The command that traces, and the client's calls behind it, against the running API."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.client import Palimpsest
from service.contracts.jobs import JobStatus
from service.contracts.traces import MOST_SUBJECTS, Kind, Trace, TraceRequest
from service.errors import ProblemError
from tests.service.acting import acting
from tests.service.conftest import Run
from tests.service.stand_in import StandIn
from tests.service.tracing import BODY, carry_out, traces_of

ARGUMENTS = (BODY["prompt"], "--subject", BODY["subject"])

KNOWN: dict[str, Any] = {"template": "{} is in", "attribute": "Asia", "prediction": " Asia.", "relation_id": "P30"}
"""A record of known_1000.json without its number, subject and prompt."""


def test_trace_shows_a_heat_map_of_each_kind(ask: Run, worker: StandIn) -> None:
    with acting(worker, lambda trace_id: carry_out(worker, trace_id), traces_of(worker)):
        code, output, _ = ask("trace", *ARGUMENTS)
    assert code == 0
    for words in (
        "hidden state, 9 is 0.500",
        "MLP, 9 is 0.500; 3 layers at once",
        "attention, 9 is",
        "is completed, at r0",
    ):
        assert words in output, words
    lines = output.splitlines()
    (tower,) = [line.split() for line in lines[: lines.index("")] if "Tower*" in line]
    assert tower == ["Tower*", "4", "9", "4", "3", "2"], "its largest effect is in layer 1"
    assert "answer    Paris" in output
    assert "p         0.750 as it is, 0.062 ± 0.010 with noise of 0.375" in output
    assert "0.500 ± 0.500" in output


def test_it_may_be_asked_for_in_detail_and_told_as_json(ask: Run, worker: StandIn) -> None:
    options = ("--target", "Rome", "--kind", "mlp", "--tokens", "last-subject", "--samples", "3", "--noise", "2")
    with acting(worker, lambda trace_id: carry_out(worker, trace_id), traces_of(worker)):
        code, output, _ = ask("trace", *ARGUMENTS, *options, "--window", "4", "--revision", "base", "--json")
    trace = Trace.model_validate_json(output)
    wanted = {"target": "Rome", "kinds": ["mlp"], "tokens": "last-subject", "samples": 3, "noise": 2, "window": 4}
    assert code == 0
    assert trace.request == TraceRequest.model_validate({**BODY, **wanted, "revision": "base"})
    assert trace.result is not None
    assert list(trace.result.effects) == [Kind.MLP]


def test_the_noise_may_be_that_of_a_data_sets_subjects(ask: Run, worker: StandIn, tmp_path: Path) -> None:
    """Each of them once; what is left out is told."""
    subjects = ["Vinson Massif", "Beats Music", "Vinson Massif", ""]
    facts = [{**KNOWN, "known_id": n, "subject": it, "prompt": f"{it} is in"} for n, it in enumerate(subjects)]
    (tmp_path / "known.json").write_text(json.dumps(facts))
    with acting(worker, lambda trace_id: carry_out(worker, trace_id), traces_of(worker)):
        code, output, errors = ask("trace", *ARGUMENTS, "--noise-from", str(tmp_path / "known.json"), "--json")
    assert code == 0
    trace = Trace.model_validate_json(output)
    assert trace.request is not None
    assert trace.request.noise_subjects == ("Vinson Massif", "Beats Music")
    assert "left out: record 3" in errors


def test_of_more_subjects_than_can_be_sent_the_first_are(ask: Run, worker: StandIn, tmp_path: Path) -> None:
    facts = [{**KNOWN, "known_id": n, "subject": f"S{n}", "prompt": f"S{n} is in"} for n in range(MOST_SUBJECTS + 3)]
    (tmp_path / "known.json").write_text(json.dumps(facts))
    with acting(worker, lambda trace_id: carry_out(worker, trace_id), traces_of(worker)):
        code, output, errors = ask("trace", *ARGUMENTS, "--noise-from", str(tmp_path / "known.json"), "--json")
    assert (code, errors.splitlines()[0]) == (0, "left out: the last 3 subjects: no more can be sent at once")
    trace = traces_of(worker).get(json.loads(output)["id"])
    assert trace.request.noise_subjects == tuple(f"S{n}" for n in range(MOST_SUBJECTS))


@pytest.mark.parametrize(("name", "begins"), [("map.png", b"\x89PNG"), ("map.svg", b"<?xml")])
def test_out_draws_it(ask: Run, worker: StandIn, tmp_path: Path, name: str, begins: bytes) -> None:
    out = tmp_path / name
    with acting(worker, lambda trace_id: carry_out(worker, trace_id), traces_of(worker)):
        code, output, _ = ask("trace", *ARGUMENTS, "--out", str(out))
    assert code == 0
    assert out.read_bytes().startswith(begins)
    assert f"drawn in {out}" in output


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--out", "map.jpg"), 2, "must end with .png or .svg"),
        (("--out", "map.png", "--no-wait"), 2, "once the trace has ended"),
        (("--revision", "r7"), 4, "There is no revision r7"),
        (("--noise", "0"), 2, "greater than 0"),
        (("--noise-from", "nowhere.json"), 2, "--noise-from"),
        (("--subject", "Big Ben"), 2, "must occur in the prompt"),
    ],
)
def test_what_cannot_be_traced_is_told(ask: Run, arguments: tuple[str, ...], code: int, words: str) -> None:
    ended, _, errors = ask("trace", *ARGUMENTS, *arguments)
    assert ended == code
    assert words in errors


def test_a_picture_that_cannot_be_written_is_told(ask: Run, worker: StandIn, tmp_path: Path) -> None:
    with acting(worker, lambda trace_id: carry_out(worker, trace_id), traces_of(worker)):
        code, _, errors = ask("trace", *ARGUMENTS, "--out", str(tmp_path / "nowhere" / "map.png"))
    assert code == 2
    assert "cannot be written" in errors


def test_a_trace_that_fails_is_an_error(ask: Run, worker: StandIn) -> None:
    problem = ProblemError(500, "revision-damaged", "A blob is damaged.").problem
    traces = traces_of(worker)
    with acting(worker, lambda trace_id: traces.end_as(trace_id, "failed", problem), traces):
        code, output, errors = ask("trace", *ARGUMENTS)
    assert (code, "A blob is damaged." in errors, "is failed" in output) == (1, True, True)


def test_no_wait_returns_at_once_and_the_client_does_the_rest(ask: Run, worker: StandIn, server_url: str) -> None:
    code, output, _ = ask("trace", *ARGUMENTS, "--no-wait", "--json")
    trace = Trace.model_validate_json(output)
    assert (code, trace.status) == (0, JobStatus.QUEUED)
    with Palimpsest(server_url) as client:
        assert client.traces.cancel(trace.id).status is JobStatus.CANCELLED
        other = client.traces.submit(TraceRequest.model_validate(BODY))
        with pytest.raises(ProblemError, match="nothing to draw"):
            client.traces.picture(other.id)
        found = carry_out(worker, other.id)
        assert client.traces.get(other.id).result == found
        assert [each.id for each in client.traces.page().traces] == [other.id, trace.id]
        assert [each.id for each in client.traces.page(limit=1).traces] == [other.id]
        assert list(client.traces.events(other.id))[-1].status is JobStatus.COMPLETED
        assert client.traces.picture(other.id, kind=Kind.MLP, width=300).startswith(b"\x89PNG")
