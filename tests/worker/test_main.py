"""A worker that cannot serve says why in one sentence and exits with the code of the reason."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker.models.families import FAMILIES


def _run(valkey_url: str | None, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "REDIS_URL" and not k.startswith("PALIMPSEST_")}
    environment |= {"OMP_NUM_THREADS": "1", **{f"PALIMPSEST_{name.upper()}": value for name, value in settings.items()}}
    if valkey_url:
        environment["REDIS_URL"] = valkey_url
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
