"""The commands for a ledger at rest, as processes, on a data directory that a real worker's engine has filled."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from service.claims import DataDirectory
from service.embedded import EmbeddedRedis
from service.keys import Keys
from tests.e2e.kit import until
from tests.families import save_tiny_model, tiny_model
from tests.worker.engine.kit import Stand, live_checksum
from tests.worker.tools.kit import varied

ROOT = Path(__file__).parents[3]
MODEL = "tiny-llama"
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model's folder."""
    folder = tmp_path_factory.mktemp("models") / MODEL
    save_tiny_model(folder)
    return folder


@contextmanager
def embedded(data: Path) -> Iterator[Any]:
    """The Redis of a data directory, as `up` has it."""
    directory = DataDirectory(data)
    server = EmbeddedRedis(directory.path / "redis", keep=(directory.fd,))
    try:
        server.wait()
        with Redis.from_url(server.url, decode_responses=True) as client:
            yield client
    finally:
        server.child.interrupt()
        server.child.wait(15)
        directory.release()


class Here(Stand):
    """A stand whose blobs lie where a worker's do."""

    def __init__(self, redis: Any, data: Path) -> None:
        folder = data / "stand"
        folder.mkdir(parents=True, exist_ok=True)
        (data / "blobs" / MODEL).mkdir(parents=True, exist_ok=True)
        if not (folder / "blobs").exists():
            (folder / "blobs").symlink_to(data / "blobs" / MODEL)
        super().__init__(redis, Keys(MODEL), tiny_model("llama"), folder)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with a history of every kind of revision."""
    data = tmp_path / "data"
    with embedded(data) as redis:
        varied(Here(redis, data))
    return data


def _arguments(model: Path, data: Path, *arguments: str) -> dict[str, Any]:
    program = "import sys; from service.cli import main; sys.argv[0] = 'palimpsest'; main()"
    kept = {name: value for name, value in os.environ.items() if name != "REDIS_URL" and "PALIMPSEST" not in name}
    where = ["--model", str(model), "--data-dir", str(data)]
    return {
        "args": [sys.executable, "-c", program, *arguments, *where],
        "cwd": ROOT,
        "env": kept | {"OMP_NUM_THREADS": "1"},
        "text": True,
    }


@pytest.fixture
def run(model: Path, data: Path) -> Command:
    """Runs a command of palimpsest on the data directory."""

    def run(*arguments: str, on: Path = data, **env: str) -> "subprocess.CompletedProcess[str]":
        command = _arguments(model, on, *arguments)
        command["env"] |= env
        return subprocess.run(**command, capture_output=True, check=False)

    return run


def test_a_ledger_is_checked_moved_and_checked_again(run: Command, data: Path, tmp_path: Path) -> None:
    checked = run("fsck", "--json")
    assert (checked.returncode, checked.stderr) == (0, "")
    report = json.loads(checked.stdout)
    assert (report["head"], report["edits"], report["states"], report["findings"]) == (8, 4, 6, [])
    exported = run("export-ledger", str(tmp_path / "ledger.tar"))
    assert exported.returncode == 0, exported.stderr
    assert f"head checksum {report['checksum']}" in exported.stdout
    other = tmp_path / "other"
    refused = run("import-ledger", str(tmp_path / "ledger.tar"), "--dtype", "bfloat16", on=other)
    assert refused.returncode == 2
    assert "here the base is another" in refused.stderr
    imported = run("import-ledger", str(tmp_path / "ledger.tar"), "--json", on=other)
    assert (imported.returncode, imported.stderr) == (0, "")
    told = json.loads(imported.stdout)
    assert (told["head"], told["revisions"], told["edits"]) == (report["checksum"], 9, 4)
    assert json.loads(run("fsck", "--json", on=other).stdout) == report
    with embedded(other) as redis:
        assert live_checksum(Here(redis, other).loaded) == report["checksum"]
    assert data.exists()


def test_damage_is_said_and_has_an_exit_code_of_its_own(run: Command, data: Path) -> None:
    with embedded(data) as redis:
        blob = json.loads(redis.xrange(Keys(MODEL).ledger)[2][1]["entry"])["blob"]
    path = data / "blobs" / MODEL / f"{blob}.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    answer = run("fsck", "--no-fold")
    assert answer.returncode == 1
    assert f"blob: Blob {blob} in " in answer.stdout
    assert "lost with it: r2 to r3, r8" in answer.stdout
    assert "Still reachable: r0 to r1, r4 to r7." in answer.stdout


def test_a_redis_that_was_lost_is_restored(run: Command, data: Path) -> None:
    with embedded(data) as redis:
        redis.flushall()
    lost = run("fsck", "--no-fold")
    assert lost.returncode == 1
    assert "Redis lacks r0 to r8" in lost.stdout
    assert run("gc").returncode == 2
    restored = run("fsck", "--restore", "--no-fold")
    assert (restored.returncode, restored.stderr) == (0, ""), restored.stdout
    assert restored.stdout.startswith("Restored r0 to r8 in Redis from the mirror.")


def test_what_nothing_names_is_collected(run: Command, data: Path) -> None:
    stray = data / "blobs" / MODEL / f"{'0' * 64}.safetensors"
    stray.write_bytes(b"123")
    os.utime(stray, (0, 0))
    asked = run("gc", "--dry-run")
    assert (asked.stdout, asked.stderr) == ("Would delete 1 files, 3 bytes.\n", "")
    assert stray.exists()
    done = run("gc", "--json")
    assert (json.loads(done.stdout), done.stderr) == ({"files": 1, "bytes": 3, "young": 0, "dry_run": False}, "")
    assert not stray.exists()


@pytest.mark.parametrize("command", [("fsck",), ("gc",), ("export-ledger", "x.tar"), ("import-ledger", "x.tar")])
def test_a_running_up_is_not_disturbed(run: Command, data: Path, command: tuple[str, ...]) -> None:
    directory = DataDirectory(data)
    answer = run(*command)
    directory.release()
    assert answer.returncode == 2
    assert f"is in use by process {os.getpid()}, another palimpsest. Stop it, or" in answer.stderr
    assert "Or set REDIS_URL" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_with_a_redis_of_your_own_the_data_directory_is_not_claimed(
    run: Command, data: Path, redis: Redis, valkey_url: str, tmp_path: Path
) -> None:
    """A worker may serve meanwhile."""
    stand = Here(redis, tmp_path / "served")
    varied(stand)
    directory = DataDirectory(tmp_path / "served")
    answer = run("fsck", "--json", on=tmp_path / "served", REDIS_URL=valkey_url)
    directory.release()
    assert (answer.returncode, answer.stderr) == (0, "")
    assert json.loads(answer.stdout)["checksum"] == live_checksum(stand.loaded)
    assert not (tmp_path / "served" / "redis").exists()
    assert data.exists()


@pytest.mark.parametrize("command", [("fsck",), ("export-ledger", "x.tar")])
def test_without_a_ledger_there_is_nothing_to_do(run: Command, tmp_path: Path, command: tuple[str, ...]) -> None:
    answer = run(*command, on=tmp_path / "empty")
    assert answer.returncode == 2
    assert f"There is no ledger of {MODEL} here. Name its --model and its --data-dir." in answer.stderr
    assert "start a server once first" in answer.stderr


def test_blobs_in_another_folder_are_found(run: Command, data: Path, tmp_path: Path) -> None:
    (data / "blobs").rename(tmp_path / "shared")
    assert run("fsck", "--no-fold", PALIMPSEST_BLOBS=str(tmp_path / "shared")).returncode == 0
    assert run("fsck", "--no-fold").returncode == 1
    assert "storage that cannot be used here" in run("fsck", PALIMPSEST_BLOBS="nosuch://bucket").stderr


def test_stopped_it_leaves_nothing_running(model: Path, data: Path) -> None:
    """Neither the Redis that it started, nor the tool; the data directory is free at once."""
    with subprocess.Popen(**_arguments(model, data, "fsck"), stderr=subprocess.PIPE) as process:
        log = data / "redis" / "valkey.log"
        ready = log.read_text().count("Ready to accept")
        until(lambda: log.read_text().count("Ready to accept") > ready)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode not in (0, 1)
    DataDirectory(data, linger=0).release()
