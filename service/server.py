"""Runs the API under uvicorn, so that it stops without cutting anybody off."""

import contextlib
import logging
import socket

import uvicorn
from fastapi import FastAPI

from service import logs
from service.app import create_app
from service.patience import patient
from service.settings import Settings
from service.spans import Spans, sending

GRACEFUL_SECONDS = 3
"""How long requests may take to end; those that wait or watch are told to after a second at most."""


MOST_HEADERS = 64 * 1024
"""Bytes of a request's line and headers; GET /generate has its prompts there."""


class Server(uvicorn.Server):
    """Tells the application that it is stopping before it waits for the open requests."""

    def __init__(self, app: FastAPI, host: str, port: int, request_timeout: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=patient(request_timeout),
                h11_max_incomplete_event_size=MOST_HEADERS,
                lifespan="on",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                ws="none",
                timeout_graceful_shutdown=GRACEFUL_SECONDS,
            )
        )
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the open requests, then the application."""
        self._app.state.stopping.set()
        await super().shutdown(sockets)


def make_server(settings: Settings, spans: Spans | None = None) -> Server:
    """The API on `settings.host` and `settings.port`; its `run()` blocks until a signal."""
    return Server(create_app(settings, spans), settings.host, settings.port, settings.request_timeout)


def run(settings: Settings) -> bool:
    """Serve until a signal comes, logging as the settings say; False if the API could not start."""
    logs.set_up("api", settings.log_format, logging.WARNING)
    with sending("api") as spans:
        server = make_server(settings, spans)
        with contextlib.suppress(KeyboardInterrupt):
            server.run()
    return server.started
