"""A worker that cannot serve says why in one sentence and exits with the code of the reason."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from worker.models.families import FAMILIES


def _environment(redis_url: str | None, **settings: str) -> dict[str, str]:
    environment = {k: v for k, v in os.environ.items() if k != "REDIS_URL" and not k.startswith("PALIMPSEST_")}
    environment |= {"OMP_NUM_THREADS": "1", **{f"PALIMPSEST_{name.upper()}": value for name, value in settings.items()}}
    return {**environment, "REDIS_URL": redis_url} if redis_url else environment


def _run(redis_url: str | None, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = _environment(redis_url, **settings)
    return subprocess.run(
        [sys.executable, "-m", "worker"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_without_redis_url() -> None:
    ended = _run(None)
    assert ended.returncode == 1
    assert "REDIS_URL" in ended.stderr


def test_a_missing_folder(valkey_url: str, tmp_path: Path) -> None:
    ended = _run(valkey_url, model=str(tmp_path / "nowhere"), data_dir=str(tmp_path))
    assert ended.returncode == 2
    assert str(tmp_path / "nowhere") in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_family_that_is_not_supported(valkey_url: str, tmp_path: Path) -> None:
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    ended = _run(valkey_url, model=str(tmp_path / "bert"), data_dir=str(tmp_path))
    assert ended.returncode == 3
    assert "'bert' is not supported" in ended.stderr
    assert all(family in ended.stderr for family in FAMILIES)


@pytest.mark.parametrize(("name", "value"), [("dtype", "float12"), ("device", "tpu")])
def test_a_setting_that_is_wrong(valkey_url: str, name: str, value: str) -> None:
    ended = _run(valkey_url, **{name: value})
    assert ended.returncode == 2
    assert name in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_worker_that_waits_for_redis_says_so_to_prometheus(free_port: Callable[[], int], tmp_path: Path) -> None:
    port, nobody = free_port(), f"redis://127.0.0.1:{free_port()}/0"
    environment = _environment(nobody, metrics_port=str(port), data_dir=str(tmp_path))
    with subprocess.Popen([sys.executable, "-m", "worker"], env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            text = ""
            while not text:
                assert process.poll() is None
                try:
                    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=20).text
                except httpx.ConnectError:
                    time.sleep(0.05)
        finally:
            process.terminate()
        assert process.wait(60) == 0
    assert 'palimpsest_redis_up{model="smollm2-135m"} 0.0' in text
