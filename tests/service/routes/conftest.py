"""OpenAI's own client of the running API."""

from collections.abc import Iterator

import pytest
from openai import OpenAI

from tests.service.stand_in import StandIn


@pytest.fixture(scope="session")
def shared_ai(server_url: str) -> Iterator[OpenAI]:
    """The client that all tests share."""
    with OpenAI(api_key="none", base_url=f"{server_url}/v1", max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def ai(shared_ai: OpenAI, worker: StandIn) -> OpenAI:
    """OpenAI's client of an API whose worker, a stand-in, has a chat template; it never tries twice."""
    worker.publish(chat=True)
    return shared_ai
