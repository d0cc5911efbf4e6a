"""What one `up` has for itself alone: the data directory and the port."""

import errno
import fcntl
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

LINGER_SECONDS = 20.0
"""How long the children of a killed `up` may take to end; they hold the data directory until then."""


class UpError(Exception):
    """`up` cannot start, or cannot go on; the message says why and what to do."""


class DataDirectory:
    """The lock on a data directory. Children that inherit `fd` hold it too, so it is free when the last has ended."""

    def __init__(self, path: Path, linger: float = LINGER_SECONDS) -> None:
        self.path = path.expanduser().resolve()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UpError(f"The data directory {self.path} cannot be used: {error.strerror}.") from error
        try:
            self._lock(linger)
        except UpError:
            os.close(self.fd)
            raise
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go of it."""
        os.close(self.fd)

    def _lock(self, linger: float) -> None:
        deadline = time.monotonic() + linger
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(self.fd, 32, 0).decode().strip()
                if _alive(holder) or time.monotonic() > deadline:
                    raise UpError(_held(self.path, holder)) from None
                time.sleep(0.1)
            else:
                return


def claim_port(host: str, port: int) -> int:
    """Check by binding that the API can listen there; returns the port, a free one for port 0."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UpError(
                f"Port {port} on {host} is taken by another process. Stop it, or choose another port with --port."
            ) from error
        raise UpError(f"The API cannot listen on {host} port {port}: {error.strerror}.") from error


def _held(path: Path, holder: str) -> str:
    if _alive(holder):
        return (
            f"The data directory {path} is in use by process {holder}, another palimpsest. "
            "Stop it, or choose another directory with --data-dir."
        )
    return (
        f"The data directory {path} is still held by what process {holder or '?'} started before it died. "
        "Wait for that to end, or end it."
    )


def _alive(pid: str) -> bool:
    if not pid.isdigit():
        return True  # it has the lock, and has not written its pid yet
    with suppress(PermissionError):
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return False
    return True
