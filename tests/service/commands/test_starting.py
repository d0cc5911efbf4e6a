"""The commands that start something: what they become, and what they hand on."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from redis import Redis

from service import server
from service.commands.exits import Exit
from service.settings import Settings
from tests.service.conftest import Run


def test_worker_becomes_the_worker(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environ = {**os.environ, "REDIS_URL": "redis://127.0.0.1:1"}
    became: list[list[str]] = []

    def become(_: str, command: list[str]) -> NoReturn:
        became.append(command)
        raise SystemExit

    monkeypatch.setattr(os, "environ", environ)
    monkeypatch.setattr(os, "execv", become)
    assert run("worker", "--model", f"{tmp_path}/", "--dtype", "float16")[0] == 0
    assert became == [[sys.executable, "-m", "worker"]]
    assert environ["PALIMPSEST_MODEL"] == str(tmp_path)
    assert (environ["PALIMPSEST_DTYPE"], environ["PALIMPSEST_DEVICE"]) == ("float16", "auto")


def test_stats_becomes_a_process_that_needs_no_redis(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environ = dict(os.environ)
    became: list[list[str]] = []

    def become(_: str, command: list[str]) -> NoReturn:
        became.append(command[1:])
        raise SystemExit

    monkeypatch.setattr(os, "environ", environ)
    monkeypatch.setattr(os, "execv", become)
    assert run("stats", "--layers", "4,5", "--tokens", "900", "--corpus", str(tmp_path))[0] == 0
    assert run("stats", "--method", "memit", "--source", "wikipedia")[0] == 0
    assert became == [
        ["-m", "worker.stats", "--layers=4,5", "--tokens=900", "--source=corpus"],
        ["-m", "worker.stats", "--method=memit", "--source=wikipedia"],
    ]
    assert environ["PALIMPSEST_CORPUS"] == str(tmp_path)
    assert "REDIS_URL" not in environ


@contextmanager
def _open_to_all(redis_url: str, form: str) -> Iterator["subprocess.Popen[str]"]:
    """An API that everybody could reach, and that logs in this form."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PALIMPSEST_")}
    environment |= {"REDIS_URL": redis_url, "PALIMPSEST_LOG_FORMAT": form}
    command = [sys.executable, "-m", "service.cli", "api", "--host", "0.0.0.0", "--port", "0"]  # noqa: S104
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.usefixtures("redis")
def test_a_refusal_to_start_is_a_line_of_the_log_where_a_program_reads_it(valkey_url: str) -> None:
    with _open_to_all(valkey_url, "json") as process:
        (told,) = map(json.loads, process.communicate(timeout=60)[1].splitlines())
        assert (process.returncode, told["level"], told["process"]) == (Exit.FAILED, "error", "api")
    assert "there is no key" in told["message"]
    with _open_to_all(valkey_url, "text") as process:
        assert process.communicate(timeout=60)[1] == f"{told['message']}\n"
        assert process.returncode == Exit.FAILED


def test_so_is_the_first_word_of_one_that_waits_for_redis(free_port: Callable[[], int]) -> None:
    with _open_to_all(f"redis://127.0.0.1:{free_port()}", "json") as process:
        assert process.stderr is not None
        told = json.loads(process.stderr.readline())
    assert told["level"] == "warning"
    assert told["message"].startswith("Redis does not answer, so nobody is let in")


def test_an_api_that_could_not_start_has_failed(run: Run, monkeypatch: pytest.MonkeyPatch, redis: Redis) -> None:
    assert redis.ping()
    asked: list[Settings] = []

    def run_server(settings: Settings) -> bool:
        asked.append(settings)
        return len(asked) > 1

    monkeypatch.setattr(server, "run", run_server)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    assert run("api")[0] == Exit.FAILED
    assert run("api")[0] == Exit.DONE
