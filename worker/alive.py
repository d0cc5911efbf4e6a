"""Exit code 0 if a worker of this machine has a heartbeat, and none hangs: what a container's health check asks."""

import sys
from typing import Any

from redis import Redis

from service.contracts.model import WorkerState, WorkerStatus
from service.keys import Keys, model_name
from worker.heartbeat import machine
from worker.settings import Settings


def alive(redis: Redis, keys: Keys) -> bool:
    """Whether a worker of this machine has shown a sign of life of late, and each that has is able to go on."""
    client: Any = redis
    mine = [name for name in client.zrange(keys.workers, 0, -1) if name.startswith(machine())]
    notices = [notice for notice in client.mget(map(keys.worker, mine)) if notice] if mine else []
    states = [WorkerStatus.model_validate_json(notice).state for notice in notices]
    return bool(states) and WorkerState.STALLED not in states


if __name__ == "__main__":
    settings = Settings()
    with Redis.from_url(settings.redis_url or "", decode_responses=True, socket_timeout=3.0) as redis:
        sys.exit(0 if alive(redis, Keys(model_name(settings.model))) else 1)
