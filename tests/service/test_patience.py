"""Requests that do not come to an end: they are ended, and others are not kept waiting."""

import os
import resource
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import cast

import httpx
import pytest

from service import server
from service.patience import Patient
from service.server import Server, make_server
from service.settings import Settings
from tests.service.conftest import join, serve

SECONDS = 0.5

GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"

ELSEWHERE = "127.0.0.2"
"""Another address of this machine, which is no proxy."""

pytestmark = pytest.mark.usefixtures("redis")


@pytest.fixture(scope="module")
def impatient(valkey_url: str) -> Iterator[httpx.URL]:
    settings = Settings(model="test-model", port=0, redis_url=valkey_url, request_timeout=SECONDS)
    with contextmanager(serve)(settings) as url:
        yield httpx.URL(url)


@contextmanager
def connected(url: httpx.URL, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.create_connection((url.host, url.port or 0), timeout=60, source_address=(source, 0)) as connection:
        yield connection


def until(what: Callable[[], bool]) -> None:
    """Wait until it is so."""
    ends = time.monotonic() + 60
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.02)


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


def test_half_a_request_that_comes_with_a_whole_one_is_ended(impatient: httpx.URL) -> None:
    """Both in one piece: nothing more arrives after the first is answered."""
    with connected(impatient) as connection:
        connection.sendall(GET + HALVES["half a body"])
        said = until_closed(connection)
    assert said.startswith(b"HTTP/1.1 200")
    assert said.count(b"HTTP/1.1") == 1


@pytest.fixture
def observed(valkey_url: str) -> Iterator[Server]:
    """A server whose connections can be looked at."""
    server = make_server(Settings(model="test-model", port=0, redis_url=valkey_url, request_timeout=4 * SECONDS))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    yield server
    server.should_exit = True
    join(thread)


def fill(server: Server, connection: socket.socket) -> Patient:
    """Ask, and read no answer, until the system takes no more of them; returns the server's end."""
    until(lambda: len(server.server_state.connections) == 1)
    (end,) = server.server_state.connections
    end.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    asked = 0
    while not end.transport.get_write_buffer_size():
        connection.sendall(b"GET /playground/app.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
        asked += 1
        until(lambda: server.server_state.total_requests == asked)  # noqa: B023 - it is called at once
    assert not cast(Patient, end).flow.write_paused
    return cast(Patient, end)


@pytest.mark.parametrize(
    "last", [b"", HALVES["half a body"], b"nonsense\r\n\r\n", None], ids=["idle", "half a body", "nonsense", "end"]
)
def test_an_answer_that_nobody_takes_keeps_no_connection_open(observed: Server, last: bytes | None) -> None:
    """One so short that the buffer never fills: only that it does not empty tells."""
    with socket.socket() as connection:
        connection.settimeout(60)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(observed.servers[0].sockets[0].getsockname())
        end = fill(observed, connection)
        if last is None:
            connection.shutdown(socket.SHUT_WR)
        else:
            connection.sendall(last)
        until(lambda: not observed.server_state.connections)
        assert end.transport.is_closing()


def test_an_answer_that_is_taken_late_is_whole(observed: Server) -> None:
    """As long as something of it is taken now and then, also after the server has closed."""
    with socket.socket() as connection:
        connection.settimeout(60)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(observed.servers[0].sockets[0].getsockname())
        end = fill(observed, connection)
        until(end.transport.is_closing)
        time.sleep(SECONDS)
        said = until_closed(connection)
    assert said.count(b"HTTP/1.1 200") == observed.server_state.total_requests
    assert said.endswith((Path(server.__file__).parent / "playground" / "app.js").read_bytes()[-100:])


def test_one_address_gets_so_many_connections_and_others_theirs(valkey_url: str) -> None:
    settings = Settings(model="test-model", port=0, redis_url=valkey_url, max_connections=3)
    with contextmanager(serve)(settings) as place, ExitStack() as opened:
        url = httpx.URL(place)
        held = [opened.enter_context(connected(url, ELSEWHERE)) for _ in range(3)]
        with connected(url, ELSEWHERE) as refused:
            assert until_closed(refused) == b""
        for _ in range(6):  # a proxy on this machine speaks for many
            opened.enter_context(connected(url))
        assert httpx.get(url.join("/health")).status_code == 200
        for connection in held:
            connection.sendall(GET)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        held[0].close()
        until(lambda: answered(url, ELSEWHERE))


def answered(url: httpx.URL, source: str) -> bool:
    """Whether a new connection from there is served."""
    with connected(url, source) as connection, suppress(ConnectionError):
        connection.sendall(GET)
        return connection.recv(65536).startswith(b"HTTP/1.1 200")
    return False


@contextmanager
def process(limit: str, port: int, valkey_url: str, log: Path) -> Iterator[httpx.URL]:
    """The API in a process of its own. limit: what `ulimit` is told of its files."""
    url = httpx.URL(f"http://127.0.0.1:{port}")
    env = {**os.environ, "REDIS_URL": valkey_url, "PALIMPSEST_PORT": str(port), "PALIMPSEST_MODEL": "test-model"}
    shell = ["/bin/sh", "-c", f'ulimit {limit} && exec "$0" -m service.cli api', sys.executable]
    with log.open("wb") as output, subprocess.Popen(shell, env=env, stdout=output, stderr=output) as api:
        try:
            until(lambda: api.poll() is not None or lives(url))
            yield url
        finally:
            api.terminate()


def lives(url: httpx.URL) -> bool:
    """Whether it is there and says so."""
    with suppress(httpx.HTTPError):
        return httpx.get(url.join("/health")).is_success
    return False


@pytest.mark.parametrize(
    ("limit", "all_stay"), [("-n 200", False), ("-S -n 200", True)], ids=["few files", "more for the asking"]
)
def test_idle_connections_keep_nobody_out(
    valkey_url: str, tmp_path: Path, free_port: Callable[[], int], limit: str, all_stay: bool
) -> None:
    """230 of them and 200 files: the oldest go. Where the process may have more files, it takes them, and all stay."""
    log = tmp_path / "api.log"
    with process(limit, free_port(), valkey_url, log) as url, ExitStack() as opened:
        idle = [opened.enter_context(connected(url)) for _ in range(230)]
        for connection in idle:
            with suppress(ConnectionError):
                connection.sendall(b"G")
        for path in ("/health", "/edits"):
            assert httpx.get(url.join(path)).status_code == 200
        closed = select.select(idle, [], [], 0)[0]
        assert (not closed) == all_stay
        assert idle[-1] not in closed
    assert "Too many open files" not in log.read_text()
    assert log.read_text().count("the oldest make room") == (not all_stay)


@pytest.mark.parametrize(
    ("limits", "raised", "useful"),
    [
        ((256, 4096), 4096, 4096),
        ((256, -1), 10_240, 10_240),
        ((256, 1_048_576), 10_240, 10_240),
        ((-1, -1), None, 10_240),
        ((1_048_576, 1_048_576), None, 10_240),
        ((200, 200), None, 200),
    ],
)
def test_as_many_files_as_are_of_use(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], raised: int | None, useful: int
) -> None:
    kept = [limits]
    monkeypatch.setattr(resource, "RLIM_INFINITY", -1)
    monkeypatch.setattr(resource, "getrlimit", lambda _: kept[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: kept.append(wanted))
    server.raise_descriptors()
    assert kept[1:] == ([] if raised is None else [(raised, limits[1])])
    assert server.descriptors() == useful


def test_a_system_that_gives_no_more_files_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    server.raise_descriptors()
    assert server.descriptors() == 256
