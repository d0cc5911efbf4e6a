"""Clients that go away: nobody decodes for them any longer, whatever they had waited for."""

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from redis import Redis

from service.keys import Keys
from service.settings import Settings
from tests.service.asking import lane_length, stopping_after, wait_until
from tests.service.conftest import MODEL, serve
from tests.service.stand_in import StandIn

NEVER = 3600
"""Seconds until a deadline that no test lives to see."""


@pytest.fixture(scope="module")
def patient_url(valkey_url: str) -> Iterator[str]:
    """URL of an API that takes rows back from a worker only if the client goes away."""
    yield from serve(Settings(model=MODEL, port=0, redis_url=valkey_url, generate_timeout=NEVER))


@pytest.fixture
def patient(patient_url: str, worker: StandIn) -> httpx.URL:
    """The same, with a worker."""
    assert httpx.get(f"{patient_url}/revisions").json()["revision"] == worker.ledger.head()
    return httpx.URL(patient_url)


def knock(url: httpx.URL, path: str, body: dict[str, Any]) -> socket.socket:
    """Send a request over a connection of one's own."""
    client = socket.create_connection((url.host, url.port or 80))
    content = json.dumps(body).encode()
    client.sendall(
        f"POST {path} HTTP/1.1\r\nHost: {url.host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n".encode()
        + content
    )
    return client


@pytest.mark.parametrize(
    ("stream", "answers"), [(False, 0), (True, 0), (True, 1), (True, 2)], ids=["whole", "waits", "started", "speaks"]
)
def test_its_rows_are_freed(
    patient: httpx.URL,
    worker: StandIn,
    redis: Redis,
    keys: Keys,
    release: threading.Event,
    stream: bool,
    answers: int,
) -> None:
    worker.answer = stopping_after(worker, answers, release)
    with knock(patient, "/generate", {"prompt": ["one"], "stream": stream}) as client:
        wait_until(lambda: len(worker.asked) == 1)
        told = b""
        while answers and b"event: piece" not in told and (answers > 1 or b"\r\n\r\n" not in told):
            told += client.recv(1000)
        assert lane_length(redis, keys) == 1
        assert worker.gone == []
    wait_until(lambda: worker.gone == [worker.asked[0].id])
    assert lane_length(redis, keys) == 0


@pytest.mark.parametrize(("path", "body"), [("/rollback", {"to": 0}), ("/generate", {"prompt": ["one"]})])
def test_others_are_still_answered(
    patient: httpx.URL,
    worker: StandIn,
    redis: Redis,
    keys: Keys,
    release: threading.Event,
    path: str,
    body: dict[str, Any],
) -> None:
    stopped = stopping_after(worker, 0, release)
    worker.answer = stopped
    with knock(patient, path, body):
        wait_until(lambda: len(worker.asked) == 1)
    wait_until(lambda: worker.gone == [worker.asked[0].id])
    client: Any = redis
    assert client.xlen(keys.moves) == client.xlen(keys.lane) == 0
    worker.answer = worker.answers
    release.set()
    assert httpx.get(patient.join("/generate"), params={"prompt": "a"}, timeout=60).status_code == 200
