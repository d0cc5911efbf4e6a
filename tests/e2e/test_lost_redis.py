"""A Redis that has lost what was committed is refused by real workers, and given back what it lost."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from service.contracts.edits import EditStatus
from tests.conftest import _free_port
from tests.e2e.kit import Place, open_place


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with open_place(tmp_path_factory.mktemp("lost"), _free_port) as opened:
        yield opened


def _tool(place: Place, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "worker.tools", *arguments]
    return subprocess.run(command, env=place._env(), capture_output=True, text=True, check=False)


def _refused(place: Place) -> str:
    """What a worker says that ends because of it."""
    worker = place.start_worker()
    assert worker.ended() == 7, worker.said
    assert "Traceback" not in worker.said
    assert place.ready_pid() is None
    return worker.said


def test_redis_behind_the_blobs_and_redis_emptied(place: Place) -> None:
    worker = place.hire()
    ids = [place.submit().id for _ in range(2)]
    assert [place.ended(edit_id).status for edit_id in ids] == [EditStatus.APPLIED] * 2
    checksums, edits = place.checksums(), [place.client.edits.get(edit_id) for edit_id in ids]
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    lines: Any = place.redis.xrange(place.keys.ledger)
    place.redis.delete(place.keys.ledger)
    for number, fields in lines[:-1]:
        place.redis.xadd(place.keys.ledger, fields, id=number)
    assert "Redis lacks r2, which " in _refused(place)
    place.redis.flushall()
    assert "Redis lacks r0 to r2, which " in _refused(place)
    assert place.redis.exists(place.keys.ledger) == 0, "no new history was begun"
    restored = _tool(place, "fsck", "--restore", "--json")
    assert (restored.returncode, restored.stderr) == (0, "")
    report = json.loads(restored.stdout)
    assert (report["restored"], report["checksum"]) == ([0, 1, 2], checksums[-1])
    place.hire()
    assert place.checksums() == checksums
    assert [place.client.edits.get(edit_id) for edit_id in ids] == edits
    assert place.ended(place.submit().id).revision == 3
    assert _tool(place, "fsck", "--no-fold").returncode == 0, "beside a worker that serves"
