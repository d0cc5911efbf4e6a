"""Spans of OpenTelemetry: a request, its job and the job's phases, as one trace that leads through the processes.

Nothing happens unless the extra `otel` is installed and OTEL_EXPORTER_OTLP_ENDPOINT says where spans are to go.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, Literal

from service.origin import ORIGIN

Kind = Literal["SERVER", "CONSUMER"]

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Either of them switches spans on; its and OpenTelemetry's other variables are read by the exporter."""

_log = logging.getLogger(__name__)


class Spans:
    """Makes spans by a tracer, or nothing without one."""

    def __init__(self, tracer: Any = None) -> None:
        self._tracer = tracer

    @property
    def on(self) -> bool:
        """Whether anybody gets to see a span."""
        return self._tracer is not None

    @contextmanager
    def within(self, name: str, kind: Kind, **attributes: str | int) -> Iterator[Any]:
        """A span around what is done, a child of the origin's; whatever begins meanwhile is its child. None if off."""
        if not self.on:
            yield None
            return
        from opentelemetry.trace import SpanKind  # noqa: PLC0415 - an extra
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        propagator, carrier = TraceContextTextMapPropagator(), dict[str, str]()
        parent = propagator.extract({"traceparent": ORIGIN.get().traceparent})
        with self._tracer.start_as_current_span(name, parent, SpanKind[kind], attributes) as span:
            propagator.inject(carrier)
            token = ORIGIN.set(replace(ORIGIN.get(), traceparent=carrier["traceparent"]))
            try:
                yield span
            finally:
                ORIGIN.reset(token)

    def past(self, name: str, begin: int, end: int) -> None:
        """A span of what has been done, a child of the one in force; nanoseconds since 1970."""
        if self.on:
            self._tracer.start_span(name, start_time=begin).end(end)


@contextmanager
def sending(process: str) -> Iterator[Spans]:
    """Spans that are sent where the environment says, until this is left; without that, none are made.

    process: `api` or `worker`, which are called palimpsest-api and palimpsest-worker unless OTEL_SERVICE_NAME is set.
    """
    endpoint = next((name for name in ENDPOINTS if os.environ.get(name)), None)
    if endpoint is None or not _installed(endpoint):
        yield Spans()
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    logging.getLogger("opentelemetry.util.re").addFilter(_hide_header)
    name = os.environ.get("OTEL_SERVICE_NAME") or f"palimpsest-{process}"
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        yield Spans(provider.get_tracer("palimpsest"))
    finally:
        provider.shutdown()


def _hide_header(record: logging.LogRecord) -> bool:
    """Tell of a header that is badly written without the key that is in it."""
    record.msg, record.args = "OTEL_EXPORTER_OTLP_HEADERS: write name=value, commas between, %20 for a space", ()
    return True


def _installed(endpoint: str) -> bool:
    try:
        if find_spec("opentelemetry.exporter.otlp.proto.http") is not None:
            return True
    except ModuleNotFoundError:
        pass
    _log.warning("%s is set, but no spans are sent: pip install 'palimpsest[otel]'", endpoint)
    return False
