"""An engine on a real Redis."""

from pathlib import Path

import pytest
from redis import Redis

from service.keys import Keys
from tests.families import tiny_model
from tests.worker.engine.kit import Stand
from tests.worker.tools.kit import TinySite, site_of


@pytest.fixture
def stand(redis: Redis, keys: Keys, tmp_path: Path) -> Stand:
    return Stand(redis, keys, tiny_model("llama"), tmp_path)


@pytest.fixture
def site(redis: Redis, keys: Keys, tmp_path: Path) -> TinySite:
    """The stand's."""
    return site_of(redis, keys, tmp_path)
