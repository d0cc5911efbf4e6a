"""`palimpsest keys`: beside a Redis of one's own, without a server, and beside one that is running."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from service.apikeys import ApiKeys
from service.claims import DataDirectory
from service.contracts.access import Scope
from service.embedded import EmbeddedRedis
from tests.service.conftest import Run


@pytest.fixture
def ours(run: Run, monkeypatch: pytest.MonkeyPatch, valkey_url: str) -> Run:
    """Runs a command with REDIS_URL set."""
    monkeypatch.setenv("REDIS_URL", valkey_url)
    return run


def test_a_key_is_made_listed_and_revoked(ours: Run, redis: Redis) -> None:
    code, listed, told = ours("keys", "list")
    assert (code, listed) == (0, "")
    assert "palimpsest keys create" in told
    code, token, told = ours("keys", "create", "ci", "--scope", "edit")
    assert code == 0
    assert token.startswith("palimpsest_ci.")
    assert len(token.split()) == 1, "scripts take it from the output as it is"
    assert "shown only now" in told
    code, listed, _ = ours("keys", "list")
    assert code == 0
    assert "ci" in listed
    assert "edit" in listed
    assert token.strip() not in listed
    assert ours("keys", "revoke", "ci")[0] == 0
    (key,) = (json.loads(line) for line in ours("keys", "list", "--json")[1].splitlines())
    assert key["revoked_at"] is not None
    assert [key.name for key in ApiKeys(redis).listed()] == ["ci"]


def test_the_least_scope_is_the_default(ours: Run, redis: Redis) -> None:
    ours("keys", "create", "ci")
    assert ApiKeys(redis).listed()[0].scope is Scope.READ


@pytest.mark.usefixtures("redis")
def test_what_cannot_be_done_is_told(ours: Run) -> None:
    ours("keys", "create", "ci")
    code, out, told = ours("keys", "create", "ci")
    assert (code, out) == (5, "")
    assert "choose another" in told
    assert ours("keys", "revoke", "nobody")[0] == 4
    assert ours("keys", "create", "a b")[0] == 2
    assert ours("keys", "create", "other", "--scope", "root")[0] == 2


def test_a_redis_that_does_not_answer(run: Run, monkeypatch: pytest.MonkeyPatch, free_port: object) -> None:
    assert callable(free_port)
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    code, _, told = run("keys", "list")
    assert code != 0
    assert "Redis does not answer" in told


@pytest.fixture
def running(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """What `palimpsest up` holds and runs in a data directory."""
    directory = DataDirectory(tmp_path)
    redis = EmbeddedRedis(directory.path / "redis", keep=(directory.fd,))
    try:
        redis.wait()
        yield redis
    finally:
        redis.child.interrupt()
        redis.child.wait(60)
        directory.release()


def test_the_first_key_is_made_before_anything_runs(run: Run, tmp_path: Path) -> None:
    where = ("--data-dir", str(tmp_path))
    code, token, _ = run("keys", "create", "ci", *where)
    assert code == 0
    assert token.startswith("palimpsest_ci.")
    assert "ci" in run("keys", "list", *where)[1], "it was not kept"
    DataDirectory(tmp_path, linger=60).release()


def test_a_key_is_made_beside_a_running_server(run: Run, tmp_path: Path, running: EmbeddedRedis) -> None:
    assert run("keys", "create", "ci", "--data-dir", str(tmp_path))[0] == 0
    with Redis.from_url(running.url, decode_responses=True) as redis:
        assert [key.name for key in ApiKeys(redis).listed()] == ["ci"]
    assert running.child.ended is None
