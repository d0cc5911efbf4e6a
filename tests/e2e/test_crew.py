"""`palimpsest up --workers 2` as people run it, on a tiny model: both serve, and either may be killed."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import _free_port
from tests.e2e.test_life import SLOW, Stack
from tests.families import save_tiny_model


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    root = tmp_path_factory.mktemp("crew")
    save_tiny_model(root / "tiny-llama")
    running = Stack(root / "tiny-llama", root / "data", _free_port(), "--workers", "2")
    running.start()
    yield running
    running.clean_up()


def _serving(stack: Stack) -> dict[int, dict[str, Any]]:
    """The workers that serve the head, by process, the leader first."""
    ready = stack._get("/ready") or {"workers": []}
    return {one["pid"]: one for one in ready["workers"] if one["state"] == "ready" and one["lag"] == 0}


def test_a_killed_leaders_edit_is_finished_and_the_leader_replaced(stack: Stack) -> None:
    """By the other worker, or by the new one, if that is faster."""
    stack.until(lambda: len(_serving(stack)) == 2)
    leader, follower = _serving(stack)
    said = stack._log.read_text()
    assert "worker 1: ready: tiny-llama at r0" in said
    assert "worker 2: ready: tiny-llama at r0" in said
    edit_id = stack.edit(hparams={**SLOW, "v_num_grad_steps": 300})
    stack.wait_for_step(edit_id)
    os.kill(leader, signal.SIGKILL)
    edit = stack.wait_for(edit_id, "applied", "failed")
    assert (edit["status"], edit["attempts"], edit["revision"]) == ("applied", 2, 1)
    stack.until(lambda: len(_serving(stack)) == 2)
    after = _serving(stack)
    assert follower in after
    assert leader not in after
    assert [one["leader"] for one in after.values()] == [True, False]
    assert {one["revision"] for one in after.values()} == {1}


def test_a_killed_follower_is_replaced_and_nobody_notices(stack: Stack) -> None:
    stack.until(lambda: len(_serving(stack)) == 2)
    leader, follower = _serving(stack)
    os.kill(follower, signal.SIGKILL)
    rollback = stack.post("/rollback", {"to": 0})
    answer = stack.get("/generate", prompt="The city of", max_new_tokens=2, min_revision=rollback["revision"])
    assert answer["revision"] == rollback["revision"]
    stack.until(lambda: len(_serving(stack)) == 2 and follower not in _serving(stack))
    assert next(iter(_serving(stack))) == leader
    assert stack.stop() == 0
