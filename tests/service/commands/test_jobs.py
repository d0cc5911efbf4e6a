"""The commands about jobs of any kind, against the running API."""

import json
from pathlib import Path
from typing import NoReturn

import pytest
from pydantic import BaseModel

from service.commands.calls import print_line
from service.contracts.edits import Edit, EditStatus
from service.contracts.evaluations import EvaluationRequest
from service.contracts.traces import Trace, TraceRequest
from service.errors import ProblemError
from service.jobcalls import JobCalls
from tests.service.conftest import Run
from tests.service.stand_in import EIFFEL, StandIn, queue_edit
from tests.service.tracing import BODY, carry_out, traces_of


def evaluation_of(worker: StandIn) -> str:
    evaluation_id, _ = worker.evaluations.create(EvaluationRequest())
    return evaluation_id


def trace_of(worker: StandIn) -> str:
    trace_id, _ = traces_of(worker).create(TraceRequest.model_validate(BODY))
    return trace_id


def test_jobs_of_all_kinds_are_listed_newest_first(ask: Run, worker: StandIn) -> None:
    edit, evaluation, trace = queue_edit(worker.edits).id, evaluation_of(worker), trace_of(worker)
    worker.edits.cancel(edit)
    code, output, _ = ask("jobs")
    rows = [line.split() for line in output.splitlines()[1:]]
    assert code == 0
    assert [row[:3] for row in rows] == [
        [trace, "trace", "queued"],
        [evaluation, "evaluation", "queued"],
        [edit, "edit", "cancelled"],
    ]
    assert f"{EIFFEL['prompt']} → Rome" in output
    _, output, _ = ask("jobs", "--json", "--status", "queued", "--limit", "1")
    (line,) = output.splitlines()
    assert json.loads(line).pop("event") == "trace"
    _, output, _ = ask("jobs", "--kind", "edit")
    assert [row.split()[0] for row in output.splitlines()[1:]] == [edit]


def test_a_job_of_any_kind_is_shown(ask: Run, worker: StandIn, tmp_path: Path) -> None:
    edit, evaluation, trace = queue_edit(worker.edits).id, evaluation_of(worker), trace_of(worker)
    worker.apply(edit)
    worker.evaluate(evaluation)
    carry_out(worker, trace)
    assert "p=0.500 Rome" in ask("show", edit)[1]
    assert f"evaluation {evaluation} is completed, at r1" in ask("show", evaluation)[1]
    code, output, _ = ask("show", trace, "--out", str(tmp_path / "map.svg"))
    assert code == 0
    assert "drawn in" in output
    assert (tmp_path / "map.svg").read_text().startswith("<?xml")
    assert Trace.model_validate_json(ask("show", trace, "--json")[1]).result is not None
    code, _, errors = ask("show", edit, "--out", "x.png")
    assert code == 2
    assert "nothing of an edit can be written" in errors


def test_a_job_is_watched_to_its_end(ask: Run, worker: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    edit = queue_edit(worker.edits).id

    def tell(event: str, found: BaseModel) -> None:
        """It is applied once the watch has told that it is queued."""
        print_line(event, found)
        if event == "queued":
            worker.apply(edit)

    monkeypatch.setattr("service.commands.jobs.print_line", tell)
    code, output, _ = ask("watch", edit, "--json")
    first, *_, last = map(json.loads, output.splitlines())
    assert code == 0
    assert (first["event"], last["event"]) == ("queued", "applied")
    del last["event"]
    assert Edit.model_validate(last).revision == 1
    code, output, _ = ask("watch", edit)
    assert code == 0
    assert f"undo it: palimpsest revert {edit}" in output


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_job_that_fails_fails_the_watch(ask: Run, worker: StandIn, as_json: tuple[str, ...]) -> None:
    edit = queue_edit(worker.edits).id
    worker.edits.end(edit, EditStatus.FAILED, ProblemError(404, "gone", "The subject is gone.").problem)
    code, _, errors = ask("watch", edit, *as_json)
    assert (code, errors) == (1, "The subject is gone.\n")


def test_who_interrupts_only_stops_looking(ask: Run, worker: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    edit = queue_edit(worker.edits).id

    def interrupted(_: object, __: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(JobCalls, "events", interrupted)
    code, output, errors = ask("watch", edit)
    assert (code, output) == (130, "")
    assert errors.startswith("The edit goes on without you.")
    assert errors.endswith(f"palimpsest watch {edit}; to stop it: palimpsest cancel {edit}\n")
    assert worker.edits.get(edit).status is EditStatus.QUEUED


def test_a_job_is_cancelled_once(ask: Run, worker: StandIn) -> None:
    evaluation = evaluation_of(worker)
    code, output, _ = ask("cancel", evaluation)
    assert (code, output) == (0, f"evaluation {evaluation} is cancelled\n")
    assert ask("cancel", evaluation)[0] == 5
    code, _, errors = ask("cancel", "0123456789abcdef")
    assert (code, errors) == (4, "There is no job 0123456789abcdef; list them with: palimpsest jobs\n")
    running = queue_edit(worker.edits).id
    worker.edits.take_up(running)
    assert ask("cancel", running)[1] == f"edit {running} was asked to stop\n"
    code, output, _ = ask("cancel", queue_edit(worker.edits).id, "--json")
    assert Edit.model_validate_json(output).status is EditStatus.CANCELLED
