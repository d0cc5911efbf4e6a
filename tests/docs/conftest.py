"""One real stack for all pages: smollm2-135m, two edits in force at r2, hyperparameters and statistics made quick."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from worker.models.loading import DEFAULT_MODEL, DEFAULT_WHEEL

ROOT = Path(__file__).parents[2]
SECONDS = 120.0
"""More than anything takes that a page shows, on a busy machine."""

QUICK = {"context_template_length_params": [[5, 1]], "v_num_grad_steps": 12}
QUICK_STATISTICS = {"mom2_dataset": "corpus", "mom2_n_tokens": 2048}
LONG = ("evaluations", "traces", "benchmarks")
"""Jobs that a page only begins; whatever it shows next does not wait for them."""

FACTS: tuple[Mapping[str, Any], ...] = (
    {
        "prompt": "The Eiffel Tower is located in the city of",
        "subject": "The Eiffel Tower",
        "target_new": "Rome",
        "target_true": "Paris",
    },
    {
        "prompt": "Kyoto University is located in the country of",
        "subject": "Kyoto University",
        "target_new": "Canada",
        "target_true": "Japan",
    },
)


@dataclass(frozen=True)
class Stack:
    """A running `palimpsest up`: its URL, its data directory, and a client to it."""

    url: str
    data: Path
    http: httpx.Client

    def ended(self, kind: str, job_id: str) -> dict[str, Any]:
        """A job, once nothing more will happen to it."""
        deadline = time.monotonic() + SECONDS
        while (found := self.http.get(f"/{kind}/{job_id}").raise_for_status().json())["status"] in {
            "queued",
            "running",
        }:
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        return dict(found)

    def some(self, kind: str) -> str:
        """The id of a job of a kind: of edits the first one in force, else the newest."""
        if kind == "edits":
            head = self.http.get("/model").raise_for_status().json()["revision"]
            return str(self.http.get(f"/revisions/{head}").raise_for_status().json()["active"][0])
        jobs = self.http.get(f"/{kind}", params={"limit": 1}).raise_for_status().json()[kind]
        assert jobs, f"there are no {kind} yet"
        return str(jobs[0]["id"])

    def cancel(self, *kinds: str) -> None:
        """Cancel all jobs of these kinds that have not ended."""
        for kind in kinds:
            for job in self.http.get(f"/{kind}").raise_for_status().json()[kind]:
                if job["status"] in {"queued", "running"}:
                    self.http.delete(f"/{kind}/{job['id']}")
                    self.ended(kind, job["id"])

    def tidy(self) -> None:
        """Cancel what a page left to be done, and go back to r2."""
        self.cancel("edits", *LONG)
        self.http.post("/rollback", json={"to": len(FACTS)}).raise_for_status()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`palimpsest up`, ready at r2; skipped where the default model is not installed."""
    if find_spec(DEFAULT_WHEEL) is None:
        pytest.skip(f"the wheel {DEFAULT_WHEEL} is not installed: make setup")
    root = tmp_path_factory.mktemp("docs")
    port = tmp_port()
    command = [sys.executable, "-m", "service.cli", "up", "--port", str(port), "--data-dir", str(root / "data")]
    with (root / "up.log").open("wb") as log:
        process = subprocess.Popen(command, env=_prepared(root), stdout=log, stderr=log, cwd=ROOT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS) as http:
            _until(lambda: _ready(http), lambda: process.poll() is None, root / "up.log")
            stack = Stack(str(http.base_url), root / "data", http)
            for fact in FACTS:
                edit = http.post("/edits", json=fact).raise_for_status().json()
                assert stack.ended("edits", edit["id"])["status"] == "applied"
            yield stack
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)


def tmp_port() -> int:
    """A TCP port on which nothing listens."""
    from tests.conftest import _free_port

    return _free_port()


def _prepared(root: Path) -> dict[str, str]:
    """The environment, with the converted model where there is one, and hyperparameters that need less work."""
    (root / "data").mkdir()
    kept = ROOT / ".palimpsest" / "models"
    if (kept / DEFAULT_MODEL).is_dir():
        (root / "data" / "models").symlink_to(kept)
    shutil.copytree(ROOT / "hparams", root / "hparams")
    for path in root.glob(f"hparams/*/{DEFAULT_MODEL}.yaml"):
        file = yaml.safe_load(path.read_text())
        quick = QUICK if "context_template_length_params" in file["hparams"] else {}
        statistics = QUICK_STATISTICS if path.parent.name not in {"rome", "ft-l", "ft-m"} else {}
        path.write_text(yaml.safe_dump({**file, "hparams": {**file["hparams"], **quick, **statistics}}))
    (root / "corpus.txt").write_text("\n".join(path.read_text() for path in sorted(ROOT.glob("docs/*.md"))))
    kept_environment = {name: value for name, value in os.environ.items() if not name.startswith("PALIMPSEST_")}
    kept_environment.pop("REDIS_URL", None)
    return {
        **kept_environment,
        "OMP_NUM_THREADS": "1",
        "PALIMPSEST_HPARAMS_DIR": str(root / "hparams"),
        "PALIMPSEST_CORPUS": str(root / "corpus.txt"),
    }


def _ready(http: httpx.Client) -> bool:
    try:
        return http.get("/ready").is_success
    except httpx.TransportError:
        return False


def _until(holds: Callable[[], bool], alive: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert alive(), log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
