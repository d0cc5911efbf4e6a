"""Tiny models need one thread; more of them only wait for each other. A Valkey that may be stopped."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.worker.lane_desk import Server, open_server


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def server(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Server]:
    """A Valkey of the test's own, to stop and to start again."""
    with open_server(tmp_path, free_port()) as opened:
        yield opened
