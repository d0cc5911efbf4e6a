"""The lock on the data directory and the check of the port."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from service.claims import DataDirectory, UpError, claim_port


def test_a_data_directory_is_held_by_one(tmp_path: Path) -> None:
    first = DataDirectory(tmp_path / "new" / "data")
    assert first.path.is_dir()
    with pytest.raises(UpError, match=f"in use by process {os.getpid()}, another palimpsest"):
        DataDirectory(tmp_path / "new" / "data")
    first.release()
    DataDirectory(tmp_path / "new" / "data").release()


def died(directory: DataDirectory) -> None:
    """Make it seem as if the process that took it had died, while a child of it lives on."""
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    os.ftruncate(directory.fd, 0)
    os.pwrite(directory.fd, ended.stdout, 0)


def test_what_a_dead_holder_left_is_waited_for(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    died(directory)
    threading.Timer(0.3, directory.release).start()
    DataDirectory(tmp_path, linger=10).release()


def test_what_a_dead_holder_left_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    died(directory)
    with pytest.raises(UpError, match="still held by what process"):
        DataDirectory(tmp_path, linger=0.2)
    directory.release()


def test_a_data_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UpError, match="cannot be used: Not a directory"):
        DataDirectory(tmp_path / "file" / "data")


def test_claim_port(free_port: Callable[[], int]) -> None:
    port = free_port()
    assert claim_port("127.0.0.1", port) == port
    assert claim_port("127.0.0.1", 0) > 0
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(UpError, match=f"Port {port} on 127.0.0.1 is taken"):
            claim_port("127.0.0.1", port)
        with pytest.raises(UpError, match="is taken"):
            claim_port("0.0.0.0", port)  # noqa: S104 - nothing listens


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_that_is_not_here(host: str) -> None:
    with pytest.raises(UpError, match=f"cannot listen on {host} port 8000"):
        claim_port(host, 8000)
