"""An engine and an editor on a real Redis."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from redis import Redis

from service.keys import Keys
from tests.families import tiny_model
from tests.worker.engine.desk import Desk
from tests.worker.engine.kit import Boot, Stand
from tests.worker.engine.reading_desk import ReadingDesk


@pytest.fixture
def boot(redis: Redis, keys: Keys, tmp_path: Path) -> Boot:
    """Starts an engine on what is in Redis and in the folder, with a freshly loaded model."""
    return lambda family="llama", dtype=torch.float32: Stand(redis, keys, tiny_model(family, dtype), tmp_path)


@pytest.fixture
def open_desk(redis: Redis, keys: Keys, tmp_path: Path) -> Callable[..., Desk]:
    """Opens a desk with a freshly loaded model on what is in Redis and in the folder."""

    def open_one(family: str = "llama", corpus: Path | None = None, dtype: torch.dtype = torch.float32) -> Desk:
        return Desk(Stand(redis, keys, tiny_model(family, dtype), tmp_path), tmp_path, corpus)

    return open_one


@pytest.fixture
def desk(open_desk: Callable[..., Desk]) -> Desk:
    """A desk with a tiny llama, to which nothing has happened."""
    return open_desk()


@pytest.fixture
def reading(boot: Boot) -> ReadingDesk:
    """Readers of a tiny gpt2 with three revisions."""
    return ReadingDesk(boot("gpt2"))


@pytest.fixture
def _threads() -> Iterator[None]:
    """Lets a test change the number of threads."""
    known = torch.get_num_threads()
    yield
    torch.set_num_threads(known)
