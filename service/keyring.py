"""Finds the Redis that has the API keys: yours, the one of a running `up`, or the data directory's, started for it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from service.apikeys import ApiKeys
from service.claims import DataDirectory, UpError
from service.embedded import EmbeddedRedis
from service.errors import no_redis
from service.redis_url import sound_url

STOP_SECONDS = 15.0
"""How long Redis may take to finish writing."""


@contextmanager
def api_keys(redis_url: str | None, data_dir: Path) -> Iterator[ApiKeys]:
    """The keys, for whoever may read the data directory or knows the Redis' password; raises UpError or a problem."""
    with _url(redis_url, data_dir) as url, Redis.from_url(url, decode_responses=True, socket_timeout=5.0) as redis:
        try:
            yield ApiKeys(redis)
        except RedisError as error:
            raise no_redis() from error


@contextmanager
def _url(redis_url: str | None, data_dir: Path) -> Iterator[str]:
    if redis_url is not None:
        yield _sound(redis_url)
        return
    try:
        directory = DataDirectory(data_dir, linger=0.0)
    except UpError:
        if (running := _running(data_dir)) is None:
            raise
        yield running
        return
    try:
        yield from _started(directory)
    finally:
        directory.release()


def _sound(redis_url: str) -> str:
    try:
        return sound_url(redis_url)
    except ValueError as error:
        raise UpError(f"REDIS_URL: {error}") from None


def _started(directory: DataDirectory) -> Iterator[str]:
    redis = EmbeddedRedis(directory.path / "redis", keep=(directory.fd,))
    try:
        redis.wait()
        yield redis.url
    finally:
        redis.child.interrupt()
        redis.child.wait(STOP_SECONDS)


def _running(data_dir: Path) -> str | None:
    """The URL of the embedded Redis that `up` has started, from the file that only its owner may read."""
    try:
        config = (data_dir.expanduser().resolve() / "redis" / "valkey.conf").read_text()
    except OSError:
        return None
    port = re.search(r"^port (\d+)$", config, re.MULTILINE)
    password = re.search(r"^requirepass (\S+)$", config, re.MULTILINE)
    return f"redis://:{password[1]}@127.0.0.1:{port[1]}/0" if port and password else None
