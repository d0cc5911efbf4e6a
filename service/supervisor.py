"""`palimpsest up`: Redis, the API and the workers start, run and stop as one."""

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

from rich.console import Console
from rich.markup import escape

from service.auth import refuse_open
from service.children import Child
from service.claims import DataDirectory, UpError, claim_port
from service.client import Palimpsest
from service.crew import Crew
from service.embedded import EmbeddedRedis
from service.errors import ProblemError
from service.settings import Settings

API_SECONDS = 8.0
"""How long the API may take to end its open streams."""

WORKER_SECONDS = 12.0
"""How long a worker may take to put down what it is doing."""

REDIS_SECONDS = 15.0
"""How long Redis may take to finish writing."""

POLL_SECONDS = 0.2
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Stack:
    """What `up` runs: the settings of all, those of the workers alone, how many there are, and the commands."""

    settings: Settings
    dtype: str = "auto"
    device: str = "auto"
    workers: int = 1
    api: Sequence[str] = (sys.executable, "-m", "service.cli", "api")
    worker: Sequence[str] = (sys.executable, "-m", "worker")


class Supervisor:
    """Owns the data directory, the port and the processes."""

    def __init__(self, stack: Stack, console: Console) -> None:
        self._stack = stack
        self._console = console
        self._signals: list[int] = []
        self._redis: EmbeddedRedis | None = None
        self._api: Child | None = None
        self._crew: Crew | None = None
        self._ready = False
        self._began = time.monotonic()

    def run(self) -> None:
        """Run until a signal; raises UpError if it cannot start or go on. Leaves nothing running."""
        with self._signals_noted():
            directory, port = _claim(self._stack.settings)
            try:
                self._start(directory, port)
                with Palimpsest(self._url(port), timeout=2.0, retries=0) as client:
                    self._watch(client)
            finally:
                self._stop()
                directory.release()

    def _start(self, directory: DataDirectory, port: int) -> None:
        settings = self._stack.settings
        self._banner(directory, port)
        url = settings.redis_url
        if url is None:
            self._redis = EmbeddedRedis(directory.path / "redis", keep=(directory.fd,))
            self._redis.wait(give_up=lambda: bool(self._signals))
            # Whoever holds the data directory is alone with this Redis: what a killed worker left there is void.
            self._redis.forget(settings.keys.lease, settings.keys.workers)
            url = self._redis.url
        if not self._signals:
            refuse_open(settings, url)
        env = {
            "REDIS_URL": url,
            "PALIMPSEST_MODEL": settings.model,
            "PALIMPSEST_DTYPE": self._stack.dtype,
            "PALIMPSEST_DEVICE": self._stack.device,
            "PALIMPSEST_DATA_DIR": str(directory.path),
            "PALIMPSEST_HOST": settings.host,
            "PALIMPSEST_PORT": str(port),
            "PALIMPSEST_INSECURE": str(int(settings.insecure)),
        }
        if not self._signals:
            self._api = Child("API", self._stack.api, env=env, keep=(directory.fd,))
            self._crew = Crew(
                self._stack.workers,
                lambda name: Child(
                    name, self._stack.worker, env={**env, **own_env(name, settings.metrics_port)}, keep=(directory.fd,)
                ),
                lambda line: self._console.print(line, style="yellow", highlight=False, soft_wrap=True),
            )

    def _watch(self, client: Palimpsest) -> None:
        while not self._signals:
            try:
                self._look()
            except UpError:
                self._console.print("stopping the others …", style="red")
                raise
            if not self._ready:
                self._announce(client)
            time.sleep(POLL_SECONDS)

    def _look(self) -> None:
        for child in (self._api, self._redis.child if self._redis else None):
            if child is not None and child.ended:
                raise UpError(f"{child.title} ended by itself ({child.ended}), so the others were stopped.")
        if self._crew:
            self._crew.look()

    def _announce(self, client: Palimpsest) -> None:
        with suppress(ProblemError):
            ready = client.ready()
            self._ready = True
            self._console.print(
                f"[bold green]ready[/]     {escape(ready.model)}{_held(client)}, "
                f"revision r{ready.revision}, after {time.monotonic() - self._began:.1f} s",
                soft_wrap=True,
            )

    def _stop(self) -> None:
        """API and workers first, together; Redis last, so that all can still note what they put down.

        One more signal, and nobody is waited for.
        """
        heeded = 1 if self._signals else 0
        if self._signals:
            self._console.print("stopping …")
        patience = dict.fromkeys(self._crew.children if self._crew else (), WORKER_SECONDS)
        if self._api:
            patience = {self._api: API_SECONDS, **patience}
        began = time.monotonic()
        for child in patience:
            child.interrupt()
        for child, seconds in patience.items():
            left = seconds - (time.monotonic() - began)
            if not child.wait(left, impatient=lambda: len(self._signals) > heeded):
                self._console.print(f"{child.title} did not stop in time and was killed.", style="yellow")
        if self._redis:
            self._redis.child.interrupt()
            self._redis.child.wait(REDIS_SECONDS)
        if self._signals:
            self._console.print("stopped")

    @contextmanager
    def _signals_noted(self) -> Iterator[None]:
        def note(number: int, _: FrameType | None) -> None:
            self._signals.append(number)

        # what is ignored stays ignored: nohup, and jobs in the background of a script
        heard = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, note) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _banner(self, directory: DataDirectory, port: int) -> None:
        redis = "yours (REDIS_URL)" if self._stack.settings.redis_url else "embedded Valkey"
        url = self._url(port)
        for name, value in (
            ("listening", f"{url}   a page is there, and at {url}/docs all the calls"),
            ("model", self._stack.settings.model),
            ("data", str(directory.path)),
            ("redis", redis),
            *([("workers", str(self._stack.workers))] if self._stack.workers > 1 else []),
        ):
            self._console.print(f"[bold]{name:<10}[/]", end="")
            self._console.print(value, markup=False, highlight=False, soft_wrap=True)

    def _url(self, port: int) -> str:
        return local_url(self._stack.settings.host, port)


def own_env(name: str, metrics_port: int | None) -> dict[str, str]:
    """What a worker has for itself: its name, and a port for its metrics; worker 1 the first one, worker 2 the next."""
    if metrics_port is None:
        return {"PALIMPSEST_NAME": name}
    number = int(name.rsplit(maxsplit=1)[-1]) if name[-1].isdigit() else 1
    return {"PALIMPSEST_NAME": name, "PALIMPSEST_METRICS_PORT": str(metrics_port + number - 1)}


def _held(client: Palimpsest) -> str:
    """How the model is held; nothing where it takes a key to learn that."""
    with suppress(ProblemError):
        card = client.model().card
        return f" ({card.dtype} on {card.device})"
    return ""


def local_url(host: str, port: int) -> str:
    """Where this machine reaches a server that listens on `host`."""
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _claim(settings: Settings) -> tuple[DataDirectory, int]:
    """Both claims, or one error that names all that is taken."""
    taken: list[str] = []
    port, directory = 0, None
    try:
        directory = DataDirectory(settings.data_dir)
    except UpError as error:
        taken.append(str(error))
    try:
        port = claim_port(settings.host, settings.port)
    except UpError as error:
        taken.append(str(error))
    if directory is None:
        raise UpError("\n".join(taken))
    if taken:
        directory.release()
        raise UpError("\n".join(taken))
    return directory, port
