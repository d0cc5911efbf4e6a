"""What the API tells of every request: counts and seconds for Prometheus, a line of the log, a span."""

import logging
import re
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.logs import TOLD
from service.origin import ORIGIN, Origin
from service.spans import Spans

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

METHODS = frozenset({"GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"})

UNKNOWN = "unknown"
"""Stands for every path that leads nowhere, and every method that there is not: clients must not name the series."""

_log = logging.getLogger(__name__)


class Telemetry:
    """The metrics of one API process. version: of Palimpsest."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "path")
        self._requests = Counter(
            "palimpsest_http_requests", "Requests answered", (*labels, "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "palimpsest_http_request_seconds",
            "Seconds until an answer was sent whole",
            labels,
            buckets=SECONDS,
            registry=self.registry,
        )
        self._redis = Gauge("palimpsest_redis_up", "1 if Redis has answered just now, else 0", registry=self.registry)
        Info("palimpsest_build", "The version that runs", registry=self.registry).info({"version": version})
        ProcessCollector(registry=self.registry)

    def answered(self, method: str, path: str, status: int, seconds: float) -> None:
        """Note an answer to a request. path: as the route has it, with names in place of ids."""
        self._requests.labels(method, path, status).inc()
        self._seconds.labels(method, path).observe(seconds)

    def found_redis(self, *, up: bool) -> None:
        """Note whether Redis has answered."""
        self._redis.set(up)


class Watched:
    """Tells of every request, the outermost of all middleware. Of a query nothing is told: it may hold a prompt."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry, spans: Spans) -> None:
        self._app = app
        self._telemetry = telemetry
        self._spans = spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, begin = 0, time.perf_counter()

        async def noting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        ORIGIN.set(Origin(traceparent=_traceparent(Headers(scope=scope).get("traceparent", ""))))
        method = scope["method"] if scope["method"] in METHODS else UNKNOWN
        with self._spans.within(method, "SERVER") as span:
            try:
                await self._app(scope, receive, noting_send)
            finally:
                path, seconds = _route(scope), time.perf_counter() - begin
                self._telemetry.answered(method, path, status, seconds)
                told = {"method": method, "path": path, "status": status, "seconds": round(seconds, 4)}
                if span is not None:
                    span.update_name(f"{method} {path}")
                    span.set_attributes({"http.route": path, "http.response.status_code": status})
                _log.info("%s %s %d", method, path, status, extra={TOLD: told})


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", UNKNOWN)


def _traceparent(given: str) -> str:
    return given if re.fullmatch(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", given) else ""
