"""An engine on a real Redis."""

from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from service.keys import Keys
from tests.families import tiny_model
from tests.service.stand_in import queue_edit
from tests.worker.engine.kit import Stand, random_delta
from tests.worker.tools.adapting import HERE, OTHER
from tests.worker.tools.kit import TinySite, site_of


@pytest.fixture
def stand(redis: Redis, keys: Keys, tmp_path: Path) -> Stand:
    return Stand(redis, keys, tiny_model("llama"), tmp_path)


@pytest.fixture
def site(redis: Redis, keys: Keys, tmp_path: Path) -> TinySite:
    """The stand's."""
    return site_of(redis, keys, tmp_path)


@pytest.fixture
def source(redis: Redis, tmp_path: Path) -> Stand:
    """An installation with two edits of two different facts."""
    stand = Stand(redis, HERE, tiny_model("llama"), tmp_path / "here")
    for seed, changes in enumerate(({}, {"prompt": "The Eiffel Tower stands in", "target_new": "Bern"})):
        edit_id = queue_edit(stand.edits, **changes).id
        stand.edits.take_up(edit_id)
        stand.commit(random_delta(stand.loaded, 1, 1 + seed, seed=seed), edit_id)
    return stand


@pytest.fixture
def target(redis: Redis, tmp_path: Path) -> TinySite:
    """Another installation of the same model, at r0, whose workers are stopped."""
    Stand(redis, OTHER, tiny_model("llama"), tmp_path / "there")
    client: Any = redis
    client.delete(OTHER.lease)
    return site_of(redis, OTHER, tmp_path / "there")
