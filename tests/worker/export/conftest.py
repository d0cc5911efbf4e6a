"""Exporters on a real Redis."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from redis import Redis

from service.keys import Keys
from tests.families import tiny_model
from tests.worker.engine.kit import Stand
from tests.worker.export.desk import ExportDesk


@pytest.fixture
def open_desk(redis: Redis, keys: Keys, tmp_path: Path) -> Callable[..., ExportDesk]:
    """Opens a desk with a freshly loaded model."""

    def open_one(family: str = "llama", dtype: torch.dtype = torch.float32, shard_bytes: int = 2**29) -> ExportDesk:
        return ExportDesk(Stand(redis, keys, tiny_model(family, dtype), tmp_path), tmp_path, shard_bytes)

    return open_one
