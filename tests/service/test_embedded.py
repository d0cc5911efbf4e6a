"""The embedded Valkey: private, durable, and clear when it cannot start."""

import os
import signal
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry

from service.claims import UpError
from service.embedded import EmbeddedRedis


def stop(embedded: EmbeddedRedis) -> None:
    embedded.child.interrupt()
    assert embedded.child.wait(60)


def test_it_asks_for_a_password_and_hides_it(tmp_path: Path) -> None:
    directory = tmp_path / 'a "quoted" \\ folder'
    embedded = EmbeddedRedis(directory)
    embedded.wait()
    try:
        assert (directory / "valkey.conf").stat().st_mode & 0o777 == 0o600
        assert directory.stat().st_mode & 0o777 == 0o700
        assert (directory / "appendonlydir").is_dir()
        with Redis.from_url(embedded.url) as redis:
            assert redis.config_get("save") == {"save": ""}
        port = embedded.url.rpartition(":")[2].partition("/")[0]
        with Redis(port=int(port), retry=Retry(NoBackoff(), 0)) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
    finally:
        stop(embedded)


def test_what_it_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    first = EmbeddedRedis(tmp_path)
    first.wait()
    with Redis.from_url(first.url) as redis:
        redis.set("fact", "kept")
    os.kill(first.child.pid, signal.SIGKILL)
    first.child.wait(60)
    assert first.child.ended == "killed by SIGKILL"
    second = EmbeddedRedis(tmp_path)
    second.wait()
    try:
        with Redis.from_url(second.url, decode_responses=True) as redis:
            assert redis.get("fact") == "kept"
        assert second.url != first.url
    finally:
        stop(second)


def test_data_that_it_cannot_read_are_named(tmp_path: Path) -> None:
    log = tmp_path / "valkey.log"
    (tmp_path / "appendonlydir").write_text("not a directory")
    embedded = EmbeddedRedis(tmp_path)
    with pytest.raises(UpError, match=r"did not start \(exit code 1\)") as raised:
        embedded.wait()
    assert str(log) in str(raised.value)


def test_waiting_can_be_given_up(tmp_path: Path) -> None:
    embedded = EmbeddedRedis(tmp_path)
    embedded.wait(give_up=lambda: True)
    stop(embedded)
