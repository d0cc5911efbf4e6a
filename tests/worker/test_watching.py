"""What is told of jobs: whose they are, how they ended, how long they took; only once, when they have ended."""

from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from service.contracts.edits import EditRequest, EditStatus
from service.edits import Edits
from service.keys import Keys
from service.origin import ORIGIN, Origin, in_name_of
from service.spans import Spans
from tests.service.stand_in import EIFFEL, outcome, queue_edit
from tests.worker.engine.kit import noting_requests
from worker.editing.progress import Step, Steps
from worker.errors import LeaseLostError, WorkerError
from worker.telemetry import Telemetry
from worker.watching import UNKNOWN, Watching


class Desk:
    """Edits, and what is told of them."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.edits = Edits(redis, keys)
        self.telemetry = Telemetry("test-model")
        self.watching = Watching(self.telemetry, Spans(), ["rome"])

    def told(self, name: str) -> dict[tuple[str, ...], float]:
        """Of edits: the values that are not 0, by method or phase and status."""
        return {labels[1:]: value for labels, value in self.all_told(name).items() if labels[0] == "edit" and value}

    def all_told(self, name: str) -> dict[tuple[str, ...], float]:
        """Of every kind, by kind, method or phase, and status."""
        families = text_string_to_metric_families(generate_latest(self.telemetry.registry).decode())
        return {
            tuple(value for label, value in sorted(sample.labels.items()) if label != "model"): sample.value
            for family in families
            for sample in family.samples
            if sample.name == name
        }


@pytest.fixture
def desk(redis: Redis, keys: Keys) -> Desk:
    return Desk(redis, keys)


def test_an_edit_is_told_of_when_it_has_ended(desk: Desk) -> None:
    edit = queue_edit(desk.edits)
    with desk.watching.around(desk.edits, edit.id):
        desk.edits.take_up(edit.id)
        desk.edits.end(edit.id, EditStatus.MEASURED, outcome=outcome())
    assert desk.told("palimpsest_jobs_ended_total") == {("rome", "measured"): 1}
    assert desk.told("palimpsest_job_phase_seconds_sum") == {("value",): 1.0}
    assert desk.told("palimpsest_job_wait_seconds_count") == {(): 1}
    assert desk.told("palimpsest_job_seconds_count") == {("rome",): 1}


def test_the_first_of_each_kind_and_end_is_seen_since_its_series_begins_at_0(desk: Desk) -> None:
    ended = desk.all_told("palimpsest_jobs_ended_total")
    assert set(ended.values()) == {0}
    edits = {status for kind, _, status in ended if kind == "edit"}
    assert edits == {"applied", "rejected", "measured", "failed", "cancelled"}
    others = {(kind, method) for kind, method, _ in ended if kind != "edit"}
    assert others == {(kind, "none") for kind in ("evaluation", "trace", "benchmark")}
    waits = {("edit",): 0, ("evaluation",): 0, ("trace",): 0, ("benchmark",): 0}
    assert desk.all_told("palimpsest_job_wait_seconds_count") == waits
    assert desk.all_told("palimpsest_job_seconds_count")["edit", "rome"] == 0
    assert desk.all_told("palimpsest_first_token_seconds_count") == {(): 0}


def test_one_that_was_handed_back_or_cancelled_in_line_is_not(desk: Desk) -> None:
    back, gone = queue_edit(desk.edits), queue_edit(desk.edits)
    with desk.watching.around(desk.edits, back.id):
        desk.edits.take_up(back.id)
        desk.edits.hand_back(back.id)
    with desk.watching.around(desk.edits, gone.id):
        desk.edits.cancel(gone.id)
    assert desk.told("palimpsest_jobs_ended_total") == {}


def test_one_that_is_cancelled_while_it_runs_is_found_in_the_log_by_its_request(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    named = noting_requests(caplog)
    with in_name_of(Origin("find-me")):
        edit_id, _ = desk.edits.create(EditRequest(**EIFFEL, hparams={}))
    with desk.watching.around(desk.edits, edit_id):
        desk.edits.take_up(edit_id)
        desk.edits.cancel(edit_id)
        desk.edits.end_as(edit_id, "cancelled")
    assert [record.getMessage() for record in caplog.records] == [f"edit {edit_id} is cancelled"]
    assert named == ["find-me"]
    assert desk.told("palimpsest_jobs_ended_total") == {("rome", "cancelled"): 1}


def test_a_method_that_there_is_not_makes_no_series_of_its_own(desk: Desk) -> None:
    edit = queue_edit(desk.edits, method="made-up")
    with desk.watching.around(desk.edits, edit.id):
        desk.edits.take_up(edit.id)
        desk.edits.end_as(edit.id, "failed")
    assert desk.told("palimpsest_jobs_ended_total") == {(UNKNOWN, "failed"): 1}


def test_what_ends_the_worker_ends_the_watching(desk: Desk) -> None:
    edit = queue_edit(desk.edits)

    def lost() -> None:
        with desk.watching.around(desk.edits, edit.id):
            desk.edits.take_up(edit.id)
            raise LeaseLostError

    with pytest.raises(LeaseLostError):
        lost()
    assert ORIGIN.get() == Origin()
    assert desk.told("palimpsest_jobs_ended_total") == {}


def test_the_job_runs_in_the_name_of_its_request(desk: Desk) -> None:
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    token = ORIGIN.set(Origin("find-me", parent))
    edit_id, _ = desk.edits.create(EditRequest(**EIFFEL, hparams={}))
    ORIGIN.reset(token)
    assert desk.edits.get(edit_id).request_id == "find-me"
    with desk.watching.around(desk.edits, edit_id):
        assert (ORIGIN.get().request_id, ORIGIN.get().traceparent) == ("find-me", parent)
    assert ORIGIN.get() == Origin()


class Noted(Spans):
    """Notes the spans of phases."""

    def __init__(self) -> None:
        super().__init__(object())
        self.phases: list[tuple[str, int, int]] = []

    def past(self, name: str, begin: int, end: int) -> None:
        self.phases.append((name, begin, end))


def test_each_phase_is_a_span_and_the_last_one_ends_with_the_computation() -> None:
    def computes(_: str) -> Steps[str]:
        for phase in ("key", "value", "value", "commit"):
            yield Step(phase)
        return "done"

    spans = Noted()
    steps: Any = Watching(Telemetry("m"), spans, ()).phased(computes)("edit")
    assert [step.phase for step in steps] == ["key", "value", "value", "commit"]
    assert [name for name, _, _ in spans.phases] == ["key", "value", "commit"]
    ends = [at for _, begin, end in spans.phases for at in (begin, end)]
    assert ends == sorted(ends)
    assert spans.phases[0][2] == spans.phases[1][1]


def test_without_spans_nothing_is_wrapped() -> None:
    def computes() -> Steps[None]:
        yield Step("key")

    assert Watching(Telemetry("m"), Spans(), ()).phased(computes) is computes


def test_a_port_that_is_taken_is_told_by_the_name_of_its_setting() -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(WorkerError, match=r"PALIMPSEST_METRICS_PORT: 127\.0\.0\.1:"):
            Telemetry("m").serve(other.getsockname()[1], "127.0.0.1")
