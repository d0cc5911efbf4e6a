"""`up`, with real processes: what it starts, what it stops, what it says when it cannot."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from service.claims import DataDirectory
from service.supervisor import local_url, own_env

ROOT = Path(__file__).parents[2]
SECONDS = 60.0


class Up:
    """A running `up` with its output."""

    def __init__(self, data_dir: Path, port: int, worker: str = "well", workers: int = 1) -> None:
        self.data_dir = data_dir
        self.port = port
        env = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.service.stand_in_up", "up", str(data_dir), str(port)],
            cwd=ROOT,
            env={**env, "STAND_IN_WORKER": worker, "STAND_IN_WORKERS": str(workers), "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for(self, text: str) -> str:
        """Read lines until one contains `text`; returns all of them."""
        assert self.process.stdout is not None
        lines = ""
        for line in self.process.stdout:
            lines += line
            if text in line:
                return lines
        raise AssertionError(f"{text!r} is not in:\n{lines}")

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Wait for its end: exit code and remaining output."""
        output, _ = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, output

    def workers(self, count: int) -> list[int]:
        """The processes of all workers so far, once there have been so many."""
        path = self.data_dir / "workers"
        deadline = time.monotonic() + SECONDS
        while not path.exists() or len(path.read_text().splitlines()) < count:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return [int(line) for line in path.read_text().splitlines()]

    def worker(self) -> list[str]:
        """What the worker has seen: its pid, REDIS_URL and PALIMPSEST_DTYPE."""
        path = self.data_dir / "worker"
        deadline = time.monotonic() + SECONDS
        while not path.exists() or len(path.read_text().splitlines()) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return path.read_text().splitlines()


Start = Callable[..., Up]


@pytest.fixture
def start(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Start]:
    """Starts `up` in the test's data directory; what is left of it is killed when the test ends."""
    started: list[Up] = []

    def start(worker: str = "well", port: int | None = None, workers: int = 1) -> Up:
        started.append(Up(tmp_path / "data", free_port() if port is None else port, worker, workers))
        return started[-1]

    yield start
    for up in started:
        up.process.kill()
        up.process.communicate()


def nothing_runs(data_dir: Path) -> bool:
    """Whether the data directory is free; every process that `up` starts holds it as long as it lives."""
    DataDirectory(data_dir, linger=SECONDS).release()
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_runs_until_a_signal_and_leaves_nothing_running(start: Start, number: int) -> None:
    up = start()
    text = up.wait_for("ready")
    assert f"http://127.0.0.1:{up.port}/docs" in text
    assert str(up.data_dir) in text
    assert "revision r0" in text
    up.signal(number)
    code, output = up.end()
    assert code == 0
    assert "stopped" in output
    assert nothing_runs(up.data_dir)


def test_the_worker_gets_a_redis_that_keeps_its_word(start: Start) -> None:
    up = start()
    _, redis_url, dtype = up.worker()
    assert dtype == "bfloat16"
    with Redis.from_url(redis_url, decode_responses=True) as redis:
        redis.set("fact", "kept")
        settings = {name: redis.config_get(name)[name] for name in ("appendonly", "appendfsync", "maxmemory-policy")}
    assert settings == {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
    up.wait_for("ready")
    up.signal(signal.SIGINT)
    up.end()

    (up.data_dir / "worker").unlink()
    again = start()
    with Redis.from_url(again.worker()[1], decode_responses=True) as redis:
        assert redis.get("fact") == "kept"
    again.signal(signal.SIGINT)
    assert again.end()[0] == 0


def test_a_worker_that_fails_ends_everything(start: Start) -> None:
    up = start("fails")
    code, output = up.end()
    assert code == 1
    assert "The worker ended by itself (exit code 3)" in output
    assert nothing_runs(up.data_dir)


def test_a_killed_worker_ends_everything(start: Start) -> None:
    up = start()
    up.wait_for("ready")
    os.kill(int(up.worker()[0]), signal.SIGKILL)
    code, output = up.end()
    assert code == 1
    assert "The worker ended by itself (killed by SIGKILL)" in output
    assert nothing_runs(up.data_dir)


def test_a_worker_that_a_new_process_may_help_is_started_again(start: Start) -> None:
    up = start("loses its lease")
    up.wait_for(
        "The worker ended (exit code 6: it was silent too long and lost its lease); it is started again in 1 s."
    )
    _, second = up.workers(2)
    os.kill(second, 0)
    up.signal(signal.SIGTERM)
    assert up.end()[0] == 0
    assert nothing_runs(up.data_dir)


def test_of_several_workers_a_dead_one_is_replaced(start: Start) -> None:
    up = start(workers=2)
    up.wait_for("ready")
    first, second = up.workers(2)
    os.kill(first, signal.SIGKILL)
    assert "ended (killed by SIGKILL); it is started again in 1 s." in up.wait_for("started again")
    *_, third = up.workers(3)
    for pid in (second, third):
        os.kill(pid, 0)
    up.signal(signal.SIGTERM)
    code, output = up.end()
    assert (code, "stopped" in output) == (0, True)
    assert nothing_runs(up.data_dir)


def test_when_no_worker_is_left_everything_ends(start: Start) -> None:
    """A mistake in the settings ends every worker, and none of them can do better the next time."""
    up = start("fails", workers=3)
    code, output = up.end()
    assert code == 1
    assert "ended by itself (exit code 3), so the others were stopped." in output
    assert nothing_runs(up.data_dir)


def test_a_second_ctrl_c_does_not_wait_for_a_deaf_worker(start: Start) -> None:
    up = start("deaf")
    up.wait_for("ready")
    up.worker()
    up.signal(signal.SIGINT)
    up.wait_for("stopping")
    up.signal(signal.SIGINT)
    code, output = up.end()
    assert code == 0
    assert "The worker did not stop in time and was killed." in output
    assert nothing_runs(up.data_dir)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_a_killed_supervisor_leaves_nothing_running(start: Start) -> None:
    up = start()
    up.wait_for("ready")
    up.signal(signal.SIGKILL)
    up.process.wait()
    assert nothing_runs(up.data_dir)


def test_a_second_one_says_what_the_first_one_holds(start: Start) -> None:
    first = start()
    first.wait_for("ready")
    code, output = start(port=first.port).end()
    assert code == 1
    assert f"The data directory {first.data_dir} is in use by process {first.process.pid}" in output
    assert f"Port {first.port} on 127.0.0.1 is taken" in output
    first.signal(signal.SIGTERM)
    assert first.end()[0] == 0


def test_a_taken_port_alone_starts_nothing(start: Start) -> None:
    first = start()
    first.wait_for("ready")
    other = Up(first.data_dir.parent / "other", first.port)
    code, output = other.end()
    assert code == 1
    assert "is taken by another process" in output
    assert "data directory" not in output
    assert not (other.data_dir / "redis").exists()


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:1"),
        ("0.0.0.0", "http://127.0.0.1:1"),  # noqa: S104 - a name, and nothing listens
        ("::", "http://[::1]:1"),
        ("box", "http://box:1"),
    ],
)
def test_local_url(host: str, url: str) -> None:
    assert local_url(host, 1) == url


def test_workers_on_one_machine_do_not_share_a_port_for_their_metrics() -> None:
    assert own_env("worker", None) == {"PALIMPSEST_NAME": "worker"}
    ports = [own_env(name, 9464)["PALIMPSEST_METRICS_PORT"] for name in ("worker", "worker 1", "worker 2", "worker 12")]
    assert ports == ["9464", "9464", "9465", "9475"]
