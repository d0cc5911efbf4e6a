"""Runs the API under uvicorn, so that it stops without cutting anybody off."""

import contextlib
import socket

import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.settings import Settings

GRACEFUL_SECONDS = 3
"""How long requests may take to end; those that wait or watch are told to after a second at most."""


class Server(uvicorn.Server):
    """Tells the application that it is stopping before it waits for the open requests."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                lifespan="on",
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


def make_server(settings: Settings) -> Server:
    """The API on `settings.host` and `settings.port`; its `run()` blocks until a signal."""
    return Server(create_app(settings), settings.host, settings.port)


def run(settings: Settings) -> bool:
    """Serve until a signal comes; False if the API could not start."""
    server = make_server(settings)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    return server.started
