"""A load run, from end to end: a server of its own with a tiny model, every kind of request, and nothing wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.load import KINDS
from benchmarks.loading.bad import bad_requests
from tests.families import save_tiny_model

OF_FT_M = (
    *("layers=[1]", "num_steps=6", "lr=0.05", "batch_size=1"),
    *("weight_decay=0", "kl_factor=0", "norm_constraint=false"),
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    folder = tmp_path_factory.mktemp("load")
    model = save_tiny_model(folder / "tiny-llama")
    return run(model, folder)


def run(model: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    options = ["--model", str(model), "--data-dir", str(folder), "--seconds", "5", "--clients", "5", "--pause", "0.2"]
    options += [f"--set={hparam}" for hparam in OF_FT_M]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PALIMPSEST_")}
    env = {**kept, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.load", *options, "--json"]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=900)


@pytest.fixture(scope="module")
def found(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_nothing_is_wrong(done: subprocess.CompletedProcess[str], found: dict[str, Any]) -> None:
    assert (done.returncode, found["wrongs"], found["fsck"]) == (0, [], 0), done.stderr
    assert found["sound"]


def test_every_kind_is_asked(found: dict[str, Any]) -> None:
    assert set(found["kinds"]) == set(KINDS)
    for latency in found["kinds"].values():
        assert latency["count"] > 0
        assert 0 < latency["p50_ms"] <= latency["p95_ms"] <= latency["p99_ms"] <= latency["max_ms"]


def test_edits_moves_and_refusals_are_counted(found: dict[str, Any]) -> None:
    moves = sum(found["kinds"][kind]["count"] for kind in ("rollback", "revert", "reapply"))
    assert found["revisions"] == 1 + found["edits_applied"] + moves
    refused = {bad.name for bad in bad_requests("tiny-llama")}
    assert refused & found["refused"].keys()
    assert sum(found["refused"].get(name, 0) for name in refused) == found["kinds"]["bad"]["count"]


def test_memory_is_watched(found: dict[str, Any]) -> None:
    for role in ("worker", "api", "valkey"):
        assert 0 < found["memory"][role]["last_mb"] <= found["memory"][role]["peak_mb"]
    assert found["ratio"] > 0
    assert len(found["samples"]) > 1
