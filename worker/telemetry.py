"""What a worker tells Prometheus of itself, at a port of its own."""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server

from worker.errors import WorkerError

WAITS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
RUNS = (0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 900, 3600)
ANSWERS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Buckets in seconds: of waits, of jobs and their phases, of answers to readers."""


class Telemetry:
    """The metrics of one worker, each with the model's name. Every method may be called from any thread."""

    def __init__(self, model: str) -> None:
        self.registry = CollectorRegistry()
        self._model = model
        self._ended = self._counter("jobs_ended", "Jobs that have ended", "kind", "method", "status")
        self._wait = self._histogram("job_wait_seconds", "From a job's request to its start", WAITS, "kind")
        self._run = self._histogram("job_seconds", "From a job's start to its end", RUNS, "kind", "method")
        self._phase = self._histogram("job_phase_seconds", "Of the phases of a job", RUNS, "kind", "phase")
        self._generation = self._histogram("generation_seconds", "From a request to its last token", ANSWERS)
        self._first = self._histogram("first_token_seconds", "From a request to its first token", ANSWERS)
        self._tokens = self._counter("generated_tokens", "Tokens that were decoded, of all rows")
        self._read = self._counter("prompt_tokens", "Tokens of the prompts that were taken up")
        self._bytes = self._gauge("model_bytes", "Of the model's parameters, as they are held")
        for metric in (self._generation, self._first, self._tokens, self._read):
            metric.labels(model)
        ProcessCollector(registry=self.registry)

    def serve(self, port: int, host: str) -> None:
        """Answer Prometheus from a thread of its own; raises WorkerError if the port is taken."""
        try:
            start_http_server(port, host, self.registry)
        except OSError as error:
            raise WorkerError(f"PALIMPSEST_METRICS_PORT: {host}:{port} cannot be used: {error.strerror}.") from error

    def expect(self, kind: str, method: str, statuses: Iterable[str]) -> None:
        """Have the series of such jobs begin at 0: of one that begins at 1, Prometheus never sees the first event."""
        labels = {"model": self._model, "kind": kind}
        for status in statuses:
            self._ended.labels(**labels, method=method, status=status)
        self._wait.labels(**labels)
        self._run.labels(**labels, method=method)

    def job_ended(
        self, kind: str, method: str, status: str, wait: float, run: float, phases: Mapping[str, float]
    ) -> None:
        """Note a job's end. wait, run, phases: in seconds."""
        labels = {"model": self._model, "kind": kind}
        self._ended.labels(**labels, method=method, status=status).inc()
        self._wait.labels(**labels).observe(wait)
        self._run.labels(**labels, method=method).observe(run)
        for phase, seconds in phases.items():
            self._phase.labels(**labels, phase=phase).observe(seconds)

    def asked(self, prompt_tokens: int) -> None:
        """Note the prompts of a request that is taken up."""
        self._read.labels(self._model).inc(prompt_tokens)

    def decoded(self, tokens: int) -> None:
        """Note the tokens of one step."""
        self._tokens.labels(self._model).inc(tokens)

    def spoke(self, asked_at: float) -> None:
        """Note the first token for a request that was made then, in Unix time."""
        self._first.labels(self._model).observe(max(0.0, time.time() - asked_at))

    def answered(self, asked_at: float) -> None:
        """Note the last token for a request that was made then, in Unix time."""
        self._generation.labels(self._model).observe(max(0.0, time.time() - asked_at))

    def holds(self, model_bytes: int) -> None:
        """Note the size of the model."""
        self._bytes.labels(self._model).set(model_bytes)

    def watch(self, name: str, meaning: str, look: Callable[[], float], **labels: str) -> None:
        """Have Prometheus look whenever it asks."""
        self._gauge(name, meaning, *labels).labels(self._model, *labels.values()).set_function(look)

    def watch_device(self, look: Callable[[], Mapping[str, float]]) -> None:
        """Have it look how the device's memory is used: bytes by what they are."""
        gauge = self._gauge("device_memory_bytes", "Memory of the device, by what it is", "state")
        for state in look():
            gauge.labels(self._model, state).set_function(partial(_part, look, state))

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"palimpsest_{name}", meaning, ("model", *labels), registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"palimpsest_{name}", meaning, ("model", *labels), registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"palimpsest_{name}", meaning, ("model", *labels), buckets=buckets, registry=self.registry)


def _part(look: Callable[[], Mapping[str, float]], name: str) -> float:
    return look()[name]
