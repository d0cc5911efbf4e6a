"""What Prometheus reads of a running API."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

from service.contracts.model import WorkerState
from service.contracts.revisions import RevisionKind
from service.contracts.scores import Drift
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
    assert found["palimpsest_jobs_pending"] == [({**MODEL, "kind": "edit"}, 1), ({**MODEL, "kind": "evaluation"}, 0)]
    values = {name: samples[0][1] for name, samples in found.items() if samples[0][0] == MODEL}
    assert values == {
        "palimpsest_head_revision": 1,
        "palimpsest_active_edits": 1,
        "palimpsest_head_perplexity_ratio": 1.04,
        "palimpsest_head_kl": 0.02,
        "palimpsest_head_norm": 0.25,
    }


def test_before_there_is_anything(http: httpx.Client) -> None:
    found = _read(http)
    assert found["palimpsest_worker_ready"] == []
    assert "palimpsest_head_revision" not in found
