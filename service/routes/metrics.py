"""Metrics for Prometheus: where the head is, which worker is where, what waits, and what this process has answered."""

import logging
from collections.abc import Iterator

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from service.board import Notices
from service.contracts.model import WorkerState
from service.contracts.revisions import Revision
from service.contracts.scores import Drift
from service.dependencies import CanRead, Services
from service.jobs import in_line, utcnow

router = APIRouter(tags=["health"])

UNEDITED = Drift(norms={}, perplexity_ratio=1.0, kl=0.0)
"""What is known of a head without edits, which nobody has measured."""

_log = logging.getLogger(__name__)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(services: CanRead) -> Response:
    """In Prometheus' text format: the model at this moment, and the requests that this process has answered.

    Those of a model are the same from every process of the API. Workers tell of themselves at a port of their own.
    What Redis keeps to itself when it fails is left out; `palimpsest_redis_up` is 0 then.
    """
    registry = CollectorRegistry()
    registry.register(_Moment(services))
    moment = b""
    try:
        moment = generate_latest(registry)
    except RedisError as error:
        _log.warning("the metrics of the model are left out: %s", error)
    services.telemetry.found_redis(up=bool(moment))
    return Response(moment + generate_latest(services.telemetry.registry), media_type=CONTENT_TYPE_LATEST)


class _Moment(Collector):
    """What can be read of a model in Redis, once."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        """The families, as Prometheus' client asks for them."""
        services = self._services
        notices = services.board.look()
        yield from _workers(notices)
        yield from _line(services)
        yield _gauge(
            "palimpsest_generations_pending",
            "Generations that wait or are being answered",
            services.keys.model,
            services.board.generations(),
        )
        failures = CounterMetricFamily(
            "palimpsest_checksum_failures",
            "Times that a worker found a blob or a revision not to be what the ledger names",
            labels=["model"],
        )
        failures.add_metric([services.keys.model], services.ledger.failed_checks())
        yield failures
        if notices.head is not None:
            yield from _head(notices.model, services.ledger.revision(notices.head))


def _workers(notices: Notices) -> Iterator[GaugeMetricFamily]:
    labels = ["model", "worker", "leader"]
    ready = GaugeMetricFamily("palimpsest_worker_ready", "1 for a worker that answers readers", labels=labels)
    stalled = GaugeMetricFamily("palimpsest_worker_stalled", "1 for one whose model thread hangs", labels=labels)
    revision = GaugeMetricFamily("palimpsest_worker_revision", "The revision that a worker serves", labels=labels)
    lag = GaugeMetricFamily("palimpsest_worker_lag_revisions", "Revisions that a worker is behind", labels=labels)
    for worker in notices.workers:
        values = [notices.model, worker.worker, str(worker.leader).lower()]
        ready.add_metric(values, worker.state is WorkerState.READY)
        stalled.add_metric(values, worker.state is WorkerState.STALLED)
        if worker.revision is not None and notices.head is not None:
            revision.add_metric(values, worker.revision)
            lag.add_metric(values, max(0, notices.head - worker.revision))
    yield from (ready, stalled, revision, lag)


def _line(services: Services) -> Iterator[GaugeMetricFamily]:
    kinds = (services.edits, services.evaluations, services.traces, services.benchmarks)
    line = in_line(kinds)
    pending = GaugeMetricFamily("palimpsest_jobs_pending", "Jobs queued or running", labels=["model", "kind"])
    for jobs in kinds:
        pending.add_metric([services.keys.model, jobs.noun], sum(noun == jobs.noun for noun, _ in line))
    yield pending
    edits = GaugeMetricFamily(
        "palimpsest_edits_pending", "Edits queued or running", labels=["model", "method", "status"]
    )
    edit_ids = (job_id for noun, job_id in line if noun == services.edits.noun)
    for (method, status), count in sorted(services.edits.unended(edit_ids).items()):
        edits.add_metric([services.keys.model, method, status], count)
    yield edits
    since = services.board.waiting_since(line)
    yield _gauge(
        "palimpsest_queue_wait_seconds",
        "How long the job that is next has waited; 0 if none waits",
        services.keys.model,
        0.0 if since is None else max(0.0, (utcnow() - since).total_seconds()),
    )


def _head(model: str, head: Revision) -> Iterator[GaugeMetricFamily]:
    found = {
        "palimpsest_head_revision": ("The newest revision", float(head.revision)),
        "palimpsest_active_edits": ("Edits in force at the head", float(head.active_count)),
    }
    drift = head.drift if head.active_count else UNEDITED
    if drift is not None:
        largest = max(drift.norms.values(), default=0.0)
        found |= {
            "palimpsest_head_perplexity_ratio": ("Of the neutral sentences, to the base", drift.perplexity_ratio),
            "palimpsest_head_kl": ("KL(base || head) on the neutral sentences, nats a token", drift.kl),
            "palimpsest_head_norm": ("Largest relative change of a layer's weights", largest),
        }
    for name, (meaning, value) in found.items():
        yield _gauge(name, meaning, model, value)


def _gauge(name: str, meaning: str, model: str, value: float) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, meaning, labels=["model"])
    gauge.add_metric([model], value)
    return gauge
