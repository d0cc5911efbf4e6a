"""The whole stack as people run it, on a tiny model: an edit's life, a killed worker, a stop in mid-edit, a restart."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.families import LAYERS, save_tiny_model

SECONDS = 180.0
FACT = {"prompt": "Yes, Lionel Messi plays", "subject": "Lionel Messi", "target_new": "basketball"}
HPARAMS: dict[str, Any] = {
    "layers": [1],
    "v_num_grad_steps": 5,
    "v_lr": 0.5,
    "v_loss_layer": LAYERS - 1,
    "v_weight_decay": 0.001,
    "clamp_norm_factor": 4,
    "kl_factor": 0.0625,
}
SLOW = {**HPARAMS, "v_num_grad_steps": 1000, "v_lr": 0.001}


class Stack:
    """`palimpsest up` on a folder with a tiny model; started, stopped and killed by the tests."""

    def __init__(self, folder: Path, data_dir: Path, port: int, *options: str) -> None:
        self._command = [
            *(sys.executable, "-m", "service.cli", "up", "--model", str(folder)),
            *("--data-dir", str(data_dir), "--port", str(port), *options),
        ]
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=70)
        self._log = data_dir.parent / "up.log"

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env={**environment, "OMP_NUM_THREADS": "1"}, stdout=log, stderr=subprocess.STDOUT
            )
        self.until(lambda: self._get("/ready") is not None)

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=SECONDS)

    def ended(self) -> int:
        return self._process.wait(timeout=SECONDS)

    def clean_up(self) -> None:
        if self._process.poll() is None:
            self.stop()
        self.client.close()

    def kill_worker(self) -> None:
        os.kill(self.get("/ready")["worker"]["pid"], signal.SIGKILL)

    def get(self, path: str, **params: Any) -> Any:
        return self.client.get(path, params=params).raise_for_status().json()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self.client.post(path, json=body).raise_for_status().json()

    def edit(self, **changes: Any) -> str:
        return str(self.post("/edits", {**FACT, "hparams": HPARAMS, **changes})["id"])

    def wait_for(self, edit_id: str, *statuses: str) -> Any:
        self.until(lambda: self.get(f"/edits/{edit_id}")["status"] in statuses)
        return self.get(f"/edits/{edit_id}")

    def wait_for_step(self, edit_id: str) -> None:
        self.until(lambda: (self.get(f"/edits/{edit_id}")["progress"] or {}).get("phase") == "value")

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not holds():
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.1)

    def _get(self, path: str) -> Any:
        try:
            answer = self.client.get(path)
        except httpx.TransportError:
            return None
        return answer.json() if answer.is_success else None


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    root = tmp_path_factory.mktemp("life")
    save_tiny_model(root / "tiny-llama")
    port = 20_000 + os.getpid() % 20_000
    running = Stack(root / "tiny-llama", root / "data", port)
    running.start()
    yield running
    running.clean_up()


def _history(stack: Stack) -> list[tuple[int, str, str]]:
    return [(r["revision"], r["kind"], r["checksum"]) for r in reversed(stack.get("/revisions")["revisions"])]


def test_an_edits_life(stack: Stack) -> None:
    edit = stack.wait_for(stack.edit(target_true="football"), "applied", "failed")
    assert edit["status"] == "applied", edit["problem"]
    metrics = edit["outcome"]["metrics"]
    assert metrics["after"]["rewrite"]["target_new"]["nll"] < metrics["before"]["rewrite"]["target_new"]["nll"]
    answer = stack.get("/generate", prompt=FACT["prompt"], before="base", after=edit["revision"], max_new_tokens=4)
    assert (
        answer["results"][0]["before"]["text"]
        == edit["outcome"]["generations"][0]["before"][: len(answer["results"][0]["before"]["text"])]
    )
    assert answer["results"][0]["after"]["revision"] == edit["revision"]
    rollback = stack.post("/rollback", {"to": "r0"})
    assert rollback["active"] == []
    assert rollback["checksum"] == _history(stack)[0][2] != _history(stack)[1][2]
    assert stack.get(f"/edits/{edit['id']}")["status"] == "reverted"


def test_generation_is_answered_while_an_edit_runs_and_the_edit_can_be_cancelled(stack: Stack) -> None:
    before = _history(stack)
    running, queued = stack.edit(hparams=SLOW), stack.edit()
    stack.wait_for_step(running)
    assert stack.get("/generate", prompt="The city of", max_new_tokens=2)["revision"] == before[-1][0]
    assert stack.get(f"/edits/{running}")["status"] == "running"
    assert stack.client.delete(f"/edits/{queued}").is_success
    assert stack.client.delete(f"/edits/{running}").is_success
    assert stack.wait_for(running, "cancelled", "applied")["status"] == "cancelled"
    assert stack.get(f"/edits/{queued}")["status"] == "cancelled"
    assert _history(stack) == before


def test_a_rollback_in_mid_edit_moves_the_edit_onto_the_new_head(stack: Stack) -> None:
    edit_id = stack.edit(hparams={**SLOW, "v_num_grad_steps": 150})
    stack.wait_for_step(edit_id)
    head = stack.post("/rollback", {"to": 0})["revision"]
    edit = stack.wait_for(edit_id, "applied", "failed")
    assert (edit["status"], edit["revision"]) == ("applied", head + 1)


def test_a_killed_workers_edit_is_finished_by_the_next_one(stack: Stack) -> None:
    before = _history(stack)
    edit_id = stack.edit(hparams={**SLOW, "v_num_grad_steps": 300})
    stack.wait_for_step(edit_id)
    stack.kill_worker()
    assert stack.ended() == 1, "up says that a child died"
    stack.start()
    edit = stack.wait_for(edit_id, "applied", "failed")
    assert (edit["status"], edit["attempts"]) == ("applied", 2)
    after = _history(stack)
    assert after[: len(before)] == before
    assert [number for number, *_ in after] == list(range(len(before) + 1))


def test_a_stop_in_mid_edit_hands_it_back(stack: Stack) -> None:
    edit_id = stack.edit(hparams={**SLOW, "v_num_grad_steps": 300})
    stack.wait_for_step(edit_id)
    before = _history(stack)
    assert stack.stop() == 0
    stack.start()
    assert _history(stack)[: len(before)] == before, "the same revisions and checksums after a restart of everything"
    edit = stack.wait_for(edit_id, "applied", "failed")
    assert (edit["status"], edit["attempts"]) == ("applied", 1)
