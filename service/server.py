"""Runs the API under uvicorn, so that it stops without cutting anybody off."""

import contextlib
import logging
import resource
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from service import logs
from service.app import create_app
from service.limits import network
from service.patience import ConnectionLimit, patient
from service.settings import Settings
from service.spans import Spans, sending

GRACEFUL_SECONDS = 3
"""How long requests may take to end; those that wait or watch are told to after a second at most."""


MOST_HEADERS = 64 * 1024
"""Bytes of a request's line and headers; GET /generate has its prompts there."""

DESCRIPTORS = 10_240
"""Open files that are of use: macOS gives no more, and the connections that more would allow would fill the memory."""

MOST_BACKLOG = 2048
"""Connections that the system keeps until they are accepted; uvicorn's own number."""


class Server(uvicorn.Server):
    """Tells the application that it is stopping before it waits for the open requests."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        # A third of the descriptors is for connections, each of which may want another to Redis; an eighth for those
        # that asyncio accepts at one go, before they are counted; the rest for files and all else.
        room = descriptors()
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            h11_max_incomplete_event_size=MOST_HEADERS,
            lifespan="on",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=GRACEFUL_SECONDS,
            backlog=min(MOST_BACKLOG, max(1, room // 8)),
        )
        limit = ConnectionLimit(max(1, room // 3), settings.max_connections, _counted(app, config))
        config.http = patient(settings.request_timeout, limit)
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the open requests, then the application."""
        self._app.state.stopping.set()
        await super().shutdown(sockets)


def make_server(settings: Settings, spans: Spans | None = None) -> Server:
    """The API on `settings.host` and `settings.port`; its `run()` blocks until a signal."""
    return Server(create_app(settings, spans), settings)


def run(settings: Settings) -> bool:
    """Serve until a signal comes, logging as the settings say; False if the API could not start."""
    logs.set_up("api", settings.log_format, logging.WARNING)
    raise_descriptors()
    with sending("api") as spans:
        server = make_server(settings, spans)
        with contextlib.suppress(KeyboardInterrupt):
            server.run()
    return server.started


def raise_descriptors() -> None:
    """Have this process open as many files as are of use, or as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _useful(soft) < _useful(hard):
        with contextlib.suppress(ValueError, OSError):  # macOS may allow fewer than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (_useful(hard), hard))


def descriptors() -> int:
    """How many of the files that this process may have open at a time are of use."""
    return _useful(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _useful(limit: int) -> int:
    return DESCRIPTORS if limit == resource.RLIM_INFINITY else min(limit, DESCRIPTORS)


def _counted(app: Any, config: uvicorn.Config) -> Callable[[str], str | None]:
    """What connections from an address count as; None where it may say for whom it asks (FORWARDED_ALLOW_IPS)."""
    proxies = ProxyHeadersMiddleware(app, config.forwarded_allow_ips).trusted_hosts
    return lambda address: None if address in proxies else network(address)
