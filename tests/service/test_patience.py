"""Requests that do not come to an end: they are ended, and others are not kept waiting."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

from service.settings import Settings
from tests.service.conftest import serve

SECONDS = 0.5

pytestmark = pytest.mark.usefixtures("redis")


@pytest.fixture(scope="module")
def impatient(valkey_url: str) -> Iterator[httpx.URL]:
    settings = Settings(model="test-model", port=0, redis_url=valkey_url, request_timeout=SECONDS)
    with contextmanager(serve)(settings) as url:
        yield httpx.URL(url)


@contextmanager
def connected(url: httpx.URL) -> Iterator[socket.socket]:
    with socket.create_connection((url.host, url.port or 0), timeout=60) as connection:
        yield connection


def until_closed(connection: socket.socket) -> bytes:
    """What comes until the server closes; fails after the socket's timeout, 60 s."""
    said = b""
    while part := connection.recv(65536):
        said += part
    return said


HALVES = {
    "nothing": b"",
    "half a line": b"GET /hea",
    "half of the headers": b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-",
    "half a body": b"POST /edits HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 100\r\n\r\n{",
    "half a chunk": b"POST /edits HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n40\r\n{",
}


@pytest.mark.parametrize("half", HALVES)
def test_half_a_request_is_ended(impatient: httpx.URL, half: str) -> None:
    with connected(impatient) as connection:
        connection.sendall(HALVES[half])
        assert until_closed(connection) == b""
    assert httpx.get(impatient.join("/health")).status_code == 200


def test_trickling_does_not_help(impatient: httpx.URL) -> None:
    """A byte now and then puts nothing off: a client that would go on for ever is cut off."""
    ended = threading.Event()
    with connected(impatient) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")

        def trickle() -> None:
            while not ended.wait(SECONDS / 10):
                try:
                    connection.sendall(b"X-Slow: 1\r\n")
                except OSError:
                    return

        trickling = threading.Thread(target=trickle)
        trickling.start()
        try:
            assert until_closed(connection) == b""
        except ConnectionResetError:
            pass
        finally:
            ended.set()
            trickling.join(60)
    assert not trickling.is_alive()


def test_a_body_after_a_refusal_is_not_awaited_for_ever(impatient: httpx.URL) -> None:
    with connected(impatient) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{")
        assert until_closed(connection).startswith(b"HTTP/1.1 404")


def test_whoever_asks_again_and_again_is_served(impatient: httpx.URL) -> None:
    """On one connection, for longer than one request may take."""
    with httpx.Client(base_url=impatient) as http:
        pause = threading.Event()
        for _ in range(4):
            assert http.get("/health").status_code == 200
            pause.wait(SECONDS / 2)


def test_huge_headers_are_refused(impatient: httpx.URL) -> None:
    with connected(impatient) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Large: " + b"x" * 200_000)
        with suppress(ConnectionResetError):  # then it was refused before it was read
            assert until_closed(connection).startswith(b"HTTP/1.1 4")
    assert httpx.get(impatient.join("/health")).status_code == 200
