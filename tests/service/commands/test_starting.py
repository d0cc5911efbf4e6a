"""The commands that start something: what they become, and what they hand on."""

import os
import sys
from pathlib import Path
from typing import NoReturn

import pytest

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
