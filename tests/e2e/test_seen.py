"""What an operator sees of a real API and a real worker: metrics, logs, spans, and a model that hangs."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from service.contracts.edits import EditStatus
from tests.conftest import _free_port
from tests.deploying import metrics_named
from tests.e2e.kit import FACT, SECONDS, Place, Worker, open_place, until

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"

HANGS = """
import os, runpy, time
from worker.engine.editor import Editor

run = Editor.run

def hanging(self, edit_id, request):
    if request.dry_run:
        while not os.path.exists(os.environ["PALIMPSEST_TEST_RELEASE"]):
            time.sleep(0.05)
    return run(self, edit_id, request)

Editor.run = hanging
runpy.run_module("worker", run_name="__main__")
"""
"""A worker whose model thread hangs in every dry run, until a file is there."""


class Collector:
    """Takes spans as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        self.spans: dict[str, Any] = {}
        self.keys: set[str | None] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.keys.add(self.headers["Authorization"])
                sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
                for resource in sent.resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans |= {span.name: span for span in scope.spans if span.trace_id.hex() == TRACE}
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


class Seen:
    """A place whose API and worker tell everything that they can."""

    def __init__(self, place: Place, worker: Worker, port: int, collector: Collector, release: Path) -> None:
        self.place, self.worker, self.collector, self.release = place, worker, collector, release
        self._port = port

    def of_worker(self) -> str:
        return httpx.get(f"http://127.0.0.1:{self._port}/metrics").raise_for_status().text

    def of_api(self) -> str:
        return self.place.http.get("/metrics").raise_for_status().text

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.place.root / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    root = tmp_path_factory.mktemp("seen")
    collector, port, release = Collector(), _free_port(), root / "release"
    told = {"log_format": "json"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hunter2")
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        with open_place(root, _free_port, **told) as place:
            extra = {"metrics_port": str(port), "stalled_seconds": "2", "test_release": str(release)}
            worker = place.start_worker(HANGS, **told, **extra)
            place.until_ready(worker)
            yield Seen(place, worker, port, collector, release)
    collector.server.shutdown()
    collector.server.server_close()


@pytest.fixture(scope="module")
def edit_id(seen: Seen) -> str:
    """An edit that was asked for by a request with an id, in a trace of its client's; and something was generated."""
    body = {**FACT, "hparams": {"v_num_grad_steps": 3}}
    headers = {"X-Request-Id": "find-me", "traceparent": TRACEPARENT}
    found = str(seen.place.http.post("/edits", json=body, headers=headers).raise_for_status().json()["id"])
    edit = seen.place.ended(found)
    assert edit.status is EditStatus.APPLIED
    assert edit.request_id == "find-me"
    seen.place.compare()
    return found


@pytest.mark.usefixtures("edit_id")
def test_the_metrics_tell_of_the_edit_and_of_the_generation(seen: Seen) -> None:
    model = {"model": "tiny-llama"}
    edits = {**model, "kind": "edit"}
    ended = "palimpsest_jobs_ended_total", frozenset({**edits, "method": "rome", "status": "applied"}.items())
    found = until(lambda: (read := _samples(seen.of_worker())).get(ended) == 1 and read, seen.of_worker)
    for phase in ("value", "update", "drift"):
        assert found["palimpsest_job_phase_seconds_count", frozenset({**edits, "phase": phase}.items())] == 1
    assert found["palimpsest_job_wait_seconds_count", frozenset(edits.items())] == 1
    of_model = frozenset(model.items())
    assert found["palimpsest_generated_tokens_total", of_model] >= 8
    assert found["palimpsest_prompt_tokens_total", of_model] > 0
    assert found["palimpsest_first_token_seconds_count", of_model] == 1
    assert found["palimpsest_generation_seconds_count", of_model] == 1
    assert found["palimpsest_model_bytes", of_model] > 1000
    assert found["palimpsest_redis_up", of_model] == 1
    of_api = _samples(seen.of_api())
    assert of_api["palimpsest_head_revision", of_model] == 1
    assert of_api["palimpsest_checksum_failures_total", of_model] == 0
    assert not {name for name, _ in found} & {name for name, _ in of_api if "palimpsest" in name} - {
        "palimpsest_redis_up"
    }


@pytest.mark.usefixtures("edit_id")
def test_whatever_dashboard_and_rules_ask_for_is_exported(seen: Seen) -> None:
    exported = {name for name, _ in _samples(seen.of_worker())} | {name for name, _ in _samples(seen.of_api())}
    named = metrics_named()
    assert len(named) > 20
    # What only a GPU has, or only a broken worker, is a label of these and not a name of its own.
    assert named <= exported, named - exported


@pytest.mark.usefixtures("edit_id")
def test_every_metric_says_what_it_is(seen: Seen) -> None:
    for text in (seen.of_worker(), seen.of_api()):
        for family in text_string_to_metric_families(text):
            if family.name.startswith("palimpsest_"):
                assert family.documentation, family.name
                assert re.fullmatch(r"palimpsest_[a-z_]+", family.name)


def test_a_request_is_found_by_its_id_in_both_logs_and_its_prompt_in_neither(seen: Seen, edit_id: str) -> None:
    worker, api = seen.lines("worker-0.log"), seen.lines("api.log")
    applied = [line for line in worker if line["message"] == f"edit {edit_id} is applied as r1"]
    assert [line["request_id"] for line in applied] == ["find-me"]
    (asked,) = (line for line in api if line.get("request_id") == "find-me")
    assert (asked["method"], asked["path"], asked["status"], asked["process"]) == ("POST", "/edits", 202, "api")
    seen.place.http.get("/generate", params={"prompt": "a secret question", "max_new_tokens": 1}).raise_for_status()
    for name in ("worker-0.log", "api.log"):
        text = (seen.place.root / name).read_text()
        assert "Messi" not in text
        assert "secret" not in text
        assert "hunter2" not in text


@pytest.mark.usefixtures("edit_id")
def test_the_clients_trace_goes_on_through_the_api_and_the_job_to_its_phases(seen: Seen) -> None:
    spans = seen.collector.spans
    until(lambda: {"POST /edits", "edit", "value", "commit"} <= spans.keys(), lambda: str(list(spans)))
    assert seen.collector.keys == {"Bearer hunter2"}
    request, job = spans["POST /edits"], spans["edit"]
    assert request.parent_span_id.hex() == TRACEPARENT.split("-")[2]
    assert job.parent_span_id == request.span_id
    for phase in ("value", "drift", "commit"):
        assert spans[phase].parent_span_id == job.span_id
        assert job.start_time_unix_nano <= spans[phase].start_time_unix_nano <= spans[phase].end_time_unix_nano


def test_a_worker_whose_model_thread_hangs_is_not_ready_and_not_alive_until_it_goes_on(seen: Seen) -> None:
    place = seen.place
    environment = {**place._env(), "PALIMPSEST_MODEL": "tiny-llama"}

    def alive() -> bool:
        command = [sys.executable, "-m", "worker.alive"]
        return subprocess.run(command, env=environment, timeout=SECONDS, check=False).returncode == 0

    assert alive()
    edit = place.submit(dry_run=True)
    until(lambda: "stalled (a step has taken" in place.http.get("/ready").text, place.says)
    assert place.http.get("/ready").status_code == 503
    (worker,) = place.client.model().workers
    assert worker.step_seconds > 2
    assert not alive()
    assert place.http.get("/health").status_code == 200
    labels = {"model": "tiny-llama", "worker": worker.worker, "leader": "true"}
    assert _samples(seen.of_api())["palimpsest_worker_stalled", frozenset(labels.items())] == 1
    seen.release.touch()
    assert place.ended(edit.id).status is EditStatus.MEASURED
    until(lambda: place.ready_pid() == seen.worker.pid, place.says)
    assert alive()


def _samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
