"""A container's health is its own worker's, whatever other workers do."""

import os
import subprocess
import sys

from redis import Redis

from service.contracts.model import WorkerState
from service.keys import Keys
from worker.alive import alive
from worker.heartbeat import Board


def test_a_worker_is_alive_while_its_notice_is_up(redis: Redis, keys: Keys) -> None:
    assert not alive(redis, keys)
    board = Board(redis, keys, 10)
    board.show(WorkerState.STARTING, "loading the model")
    assert alive(redis, keys)
    redis.delete(keys.worker(board.worker))
    assert not alive(redis, keys), "its name is still known, and its heartbeat has expired"


def test_another_machines_worker_is_not_this_ones(redis: Redis, keys: Keys) -> None:
    other = Board(redis, keys, 10)
    other.worker = "elsewhere-1-abc"
    other.show(WorkerState.READY, "serving")
    assert not alive(redis, keys)


def test_as_a_command(redis: Redis, keys: Keys, valkey_url: str) -> None:
    environment = {**os.environ, "REDIS_URL": valkey_url, "PALIMPSEST_MODEL": keys.model}
    command = [sys.executable, "-m", "worker.alive"]
    assert subprocess.run(command, env=environment, timeout=60, check=False).returncode == 1
    Board(redis, keys, 60).show(WorkerState.READY, "serving")
    assert subprocess.run(command, env=environment, timeout=60, check=False).returncode == 0
