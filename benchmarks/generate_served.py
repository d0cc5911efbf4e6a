"""What benchmarks.generate measures of a running service: a server of its own, and clients that speak HTTP."""

import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import cycle, islice
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import httpx

from benchmarks.generate_alone import Setup, Timed
from service.children import Child
from service.claims import claim_port
from service.client import Palimpsest
from service.contracts.edits import BatchRequest, EditStatus
from service.contracts.generate import GeneratedPiece, GenerateRequest, Side
from service.contracts.jobs import has_ended
from service.errors import ProblemError

START_SECONDS = 900.0
STOP_SECONDS = 40.0
SHARED = ("models", "statistics")
"""Of a data directory, what a server may find there and leave there; all else it has for itself."""


class Server(NamedTuple):
    """One that has started: where it answers, and the process that owns the others."""

    url: str
    pid: int


@contextmanager
def served(setup: Setup) -> Iterator[str]:
    """The URL of a server that has started: Valkey, API and worker, with an empty ledger."""
    with tempfile.TemporaryDirectory() as temporary, serving(setup, Path(temporary)) as server:
        yield server.url


@contextmanager
def serving(setup: Setup, folder: Path, **settings: str) -> Iterator[Server]:
    """A server that has started, with its data in a folder that is there when it has ended.

    settings: of the environment, without their prefix: cache_bytes="0".
    """
    for name in SHARED:
        (setup.data_dir / name).mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to((setup.data_dir / name).resolve())
    url = f"http://127.0.0.1:{claim_port('127.0.0.1', 0)}"
    options = ["--model", setup.model, "--dtype", setup.dtype, "--device", setup.device, "--data-dir", str(folder)]
    env = {f"PALIMPSEST_{name.upper()}": value for name, value in settings.items()}
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "service.cli", "up", *options, "--port", url.rpartition(":")[2]]
        server = Child("server", command, env=env, output=log)
    try:
        _wait_until_ready(url, server, folder / "log")
        yield Server(url, server.pid)
    finally:
        server.interrupt()
        server.wait(STOP_SECONDS)


def throughput(url: str, prompts: Sequence[str], tokens: int, clients: int, rounds: int) -> Timed:
    """So many clients at once, each asking for `rounds` completions, one after the other; tokens as returned."""
    begin = threading.Barrier(clients + 1)
    with Palimpsest(url) as one:
        model = one.model().card.name

    def ask(number: int) -> int:
        with httpx.Client(base_url=url, timeout=300) as http:
            mine = islice(cycle(prompts), number, number + rounds)
            bodies = [_completion(model, prompt, tokens) for prompt in mine]
            begin.wait()
            answers = [http.post("/v1/completions", json=body).raise_for_status().json() for body in bodies]
        return sum(answer["usage"]["completion_tokens"] for answer in answers)

    with ThreadPoolExecutor(clients) as pool:
        asked = [pool.submit(ask, number) for number in range(clients)]
        begin.wait()
        begun = time.perf_counter()
        said = sum(future.result() for future in asked)
        return Timed(said, time.perf_counter() - begun)


def one_completion(http: httpx.Client, model: str, prompt: str, tokens: int) -> float:
    """Seconds of one completion, from request to answer."""
    body = _completion(model, prompt, tokens)
    begin = time.perf_counter()
    http.post("/v1/completions", json=body).raise_for_status().read()
    return time.perf_counter() - begin


def first_token(client: Palimpsest, prompt: str) -> float:
    """Seconds from a request for both sides of a prompt until the first piece of either; then it is left."""
    request = GenerateRequest(prompt=(prompt,), max_new_tokens=16)
    begin = time.perf_counter()
    with closing(client.stream(request)) as said:
        next(said)
    return time.perf_counter() - begin


def flow(client: Palimpsest, prompt: str, tokens: int) -> Timed:
    """The tokens of both sides of a long generation that follow the first of each, and the time that they took."""
    times, count, heard = list[float](), 0, set[Side]()
    for piece in client.stream(GenerateRequest(prompt=(prompt,), max_new_tokens=tokens)):
        if isinstance(piece, GeneratedPiece):
            times.append(time.perf_counter())
            count += len(piece.tokens) if piece.side in heard else 0
            heard.add(piece.side)
    return Timed(count, times[-1] - times[0])


def beside(client: Palimpsest, request: BatchRequest, prompts: Sequence[str], tokens: int) -> dict[str, Any]:
    """First tokens and the flow of a long generation, in turns, for as long as an edit runs."""
    edit, prompts_left = client.edits.submit(request), cycle(prompts)
    firsts, flows = list[float](), list[Timed]()
    begin = time.perf_counter()
    while not has_ended((edit := client.edits.get(edit.id)).status):
        if edit.status is EditStatus.QUEUED:
            begin = time.perf_counter()
            continue
        firsts += [first_token(client, prompt) for prompt in islice(prompts_left, 5)]
        flows.append(flow(client, next(prompts_left), tokens))
    if edit.status is not EditStatus.APPLIED:
        raise SystemExit(f"the edit is {edit.status}: {edit.problem and edit.problem.detail}")
    return {
        "edit_seconds": time.perf_counter() - begin,
        "firsts": firsts,
        "tokens_per_second": sum(one.tokens for one in flows) / sum(one.seconds for one in flows),
    }


def in_turns(repeats: int, *runs: Callable[[], float]) -> list[float]:
    """The median of what each returns."""
    found = [[run() for run in runs] for _ in range(repeats)]
    return [median(values) for values in zip(*found, strict=True)]


def p95(values: Sequence[float]) -> float:
    """The 95th percentile."""
    return quantiles(values, n=20, method="inclusive")[-1]


def _completion(model: str, prompt: str, tokens: int) -> dict[str, Any]:
    return {"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0}


def _wait_until_ready(url: str, server: Child, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    with Palimpsest(url, retries=0) as client:
        while time.monotonic() < deadline and not server.ended:
            try:
                client.ready()
            except ProblemError:
                time.sleep(0.1)
            else:
                return
    raise SystemExit(f"the server did not start; its last words:\n{log.read_text(errors='replace')[-2000:]}")
