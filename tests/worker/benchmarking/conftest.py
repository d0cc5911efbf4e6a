"""An engine on a real Redis."""

from pathlib import Path

import pytest
from redis import Redis

from service.keys import Keys
from tests.families import tiny_model
from tests.worker.engine.kit import Stand


@pytest.fixture
def stand(redis: Redis, keys: Keys, tmp_path: Path) -> Stand:
    """A tiny llama at r0."""
    return Stand(redis, keys, tiny_model("llama"), tmp_path)
