"""An API of a test's own, and how somebody with a key asks it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from service.settings import Settings
from tests.service.conftest import serve


def bearer(token: str) -> dict[str, str]:
    """The header of a key."""
    return {"Authorization": f"Bearer {token}"}


@contextmanager
def served(url: str, **settings: Any) -> Iterator[httpx.Client]:
    """An API of its own."""
    serving = contextmanager(serve)(Settings(model="test-model", port=0, redis_url=url, **settings))
    with serving as base, httpx.Client(base_url=base, timeout=20) as client:
        yield client
