"""A running API that is spoken to over HTTP, and a stand-in for the worker that speaks to it through Redis."""

import faulthandler
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

from service import cli
from service.keys import Keys
from service.server import make_server
from service.settings import Settings
from tests.service.stand_in import StandIn

Run = Callable[..., tuple[int, str, str]]
"""Runs a command; returns exit code, output and error output."""

MODEL = "test-model"

STRANGE_SECONDS, HUNG_SECONDS = 10, 100
"""After which a stop wants looking into, and after which it has failed; it takes a few tenths of one."""


def serve(settings: Settings) -> Iterator[str]:
    """Run the API under uvicorn in a thread; yields its URL."""
    server = make_server(settings)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "uvicorn did not start"
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        join(thread)


def join(thread: threading.Thread) -> None:
    """Wait until the thread has ended; where that takes strangely long, every thread's stack is printed."""
    faulthandler.dump_traceback_later(STRANGE_SECONDS, file=2)
    try:
        thread.join(HUNG_SECONDS)
    finally:
        faulthandler.cancel_dump_traceback_later()
    assert not thread.is_alive(), "uvicorn did not stop"


@pytest.fixture(scope="session")
def server_url(valkey_url: str) -> Iterator[str]:
    """URL of the API that all tests share."""
    yield from serve(Settings(model=MODEL, port=0, redis_url=valkey_url, generate_timeout=2))


@pytest.fixture(scope="session")
def shared_http(server_url: str) -> Iterator[httpx.Client]:
    """The client that all tests share: to make one takes longer than most tests."""
    with httpx.Client(base_url=server_url, timeout=20) as client:
        yield client


@pytest.fixture
def http(redis: Redis, shared_http: httpx.Client) -> httpx.Client:
    """An HTTP client of a running API on an empty Redis."""
    assert redis.ping()
    # The API remembers what it has read of the ledger, until it sees it empty.
    assert shared_http.get("/revisions").json()["revision"] is None
    return shared_http


@pytest.fixture
def worker(redis: Redis, keys: Keys, http: httpx.Client) -> Iterator[StandIn]:
    """A worker's stand-in that is ready at r0 and answers the lane."""
    assert not http.is_closed
    with StandIn(redis, keys) as stand_in:
        yield stand_in


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Lets a worker go on that a test has made wait; at the latest when the test has ended."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def contents(valkey_url: str) -> Iterator[Callable[[], dict[str, bytes | None]]]:
    """Reads everything that Redis holds, to see that nothing has changed."""
    with Redis.from_url(valkey_url) as raw:
        client: Any = raw
        yield lambda: {key.decode(): client.dump(key) for key in sorted(client.keys("*"))}


@pytest.fixture
def rung(valkey_url: str, keys: Keys) -> Iterator[Callable[[], list[str]]]:
    """The edits that the worker was told of."""
    with Redis.from_url(valkey_url) as raw:
        queue = Queue(keys.queue, connection=raw, serializer=JSONSerializer)
        yield lambda: [job.args[0] for job in queue.jobs]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; returns exit code, output and error output."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("REDIS_URL", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["palimpsest", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def ask(run: Run, http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command against the running API."""
    monkeypatch.setenv("PALIMPSEST_SERVER", str(http.base_url))
    return run
