"""`up` with stand-ins for the API and the worker: `python -m tests.service.stand_in_up up|api|worker`.

STAND_IN_WORKER says how the worker behaves: well (the default), fails (exit code 3), deaf (ignores SIGTERM), loses its
lease (exit code 6, the first time). STAND_IN_WORKERS is how many there are.
"""

import os
import signal
import sys
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from rich.console import Console

from service.claims import UpError
from service.contracts.health import Ready
from service.contracts.model import ModelStatus, WorkerState, WorkerStatus
from service.settings import Settings
from service.supervisor import Stack, Supervisor
from tests.service.stand_in import model_card

ME = (sys.executable, "-m", "tests.service.stand_in_up")


class Api(BaseHTTPRequestHandler):
    """Answers /ready and /model as an API does whose worker serves r0."""

    def do_GET(self) -> None:
        """Answer."""
        worker = WorkerStatus(worker="w", pid=1, state=WorkerState.READY, detail="", since=datetime.now(UTC))
        model = ModelStatus(
            card=model_card(), revision=0, checksum="c0", edited_tensors=(), edited_layers=(), worker=worker
        )
        answer = Ready(model="m", revision=0, worker=worker) if self.path == "/ready" else model
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer.model_dump_json().encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def worker() -> None:
    """Leave word of the process, then behave as told."""
    behaviour = os.environ.get("STAND_IN_WORKER", "well")
    if behaviour == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    seen = Path(os.environ["PALIMPSEST_DATA_DIR"]) / "worker"
    first = not seen.exists()
    seen.write_text("\n".join((str(os.getpid()), os.environ["REDIS_URL"], os.environ["PALIMPSEST_DTYPE"])))
    with seen.with_name("workers").open("a") as all_of_them:
        all_of_them.write(f"{os.getpid()}\n")
    if behaviour == "fails":
        sys.exit(3)
    if behaviour == "loses its lease" and first:
        sys.exit(6)
    time.sleep(60)


def up(data_dir: str, port: str) -> None:
    """Supervise the stand-ins."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as on a terminal, whoever runs the tests
    settings = Settings(model="test-model", data_dir=Path(data_dir), port=int(port), redis_url=None)
    workers = int(os.environ.get("STAND_IN_WORKERS", "1"))
    stack = Stack(settings, dtype="bfloat16", workers=workers, api=(*ME, "api"), worker=(*ME, "worker"))
    try:
        Supervisor(stack, Console()).run()
    except UpError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["up", data_dir, port]:
            up(data_dir, port)
        case ["api"]:
            HTTPServer(("127.0.0.1", int(os.environ["PALIMPSEST_PORT"])), Api).serve_forever()
        case _:
            worker()
