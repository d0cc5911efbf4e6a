"""A reader of a load run, before a server whose answers are made up: right ones pass, and each lie is found."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from benchmarks.loading.caller import Caller, Plan, Shared
from benchmarks.loading.checks import Truth, WrongAnswerError
from benchmarks.loading.reading import (
    completion,
    completion_stream,
    generate,
    generate_stream,
    list_models,
    metrics,
    ready,
)
from benchmarks.loading.tally import Tally

PROMPT = "The Louvre is located in the city of"
HEAD = 4


class Server:
    """Says what its fields say; the revision that is asked for speaks."""

    def __init__(self) -> None:
        self.text = " Paris, France."
        self.pieces = (" Paris,", " France.")
        self.parts_at: int | None = None
        self.off = 0
        self.header: str | None = None
        self.last = "[DONE]"
        self.head = HEAD
        self.ready = httpx.Response(503, json=_problem("it serves r3, and the head is r4. Try again soon."))

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content or b"{}")
        match request.url.path:
            case "/generate":
                return self._generate(body)
            case "/v1/completions":
                return self._complete(body)
            case "/v1/models":
                names = ["tiny", "tiny@base", f"tiny@r{self.head}"]
                found = [{"id": name, "object": "model", "created": 1, "owned_by": "palimpsest"} for name in names]
                return httpx.Response(200, json={"object": "list", "data": found})
            case "/metrics":
                return httpx.Response(200, text=f'palimpsest_head_revision{{model="tiny"}} {self.head}.0\n')
        return self.ready

    def _revision(self, name: str | int) -> int:
        return {"head": HEAD, "base": 0}.get(str(name), name if isinstance(name, int) else 0) + self.off

    def _generate(self, body: dict[str, Any]) -> httpx.Response:
        sides = {side: self._revision(body.get(side, name)) for side, name in (("before", "base"), ("after", "head"))}
        said = {"text": self.text, "tokens": ("a",), "token_ids": (1,), "logprobs": (0.0,)}
        ends = {"finish_reason": "length", "seconds": 0.1}
        both = {side: {**said, **ends, "revision": revision} for side, revision in sides.items()}
        results = [{"prompt": prompt, **both, "parts_at": self.parts_at} for prompt in body["prompt"]]
        answer = {"revision": sides["after"], "model": "tiny", "seed": 1, "results": results, "seconds": 0.1}
        if not body.get("stream"):
            return httpx.Response(200, json=answer)
        pieces = [
            {**said, "prompt": at, "alternative": 0, "side": side, "revision": revision, "text": text}
            for at in range(len(results))
            for side, revision in sides.items()
            for text in self.pieces
        ]
        events = [f"event: piece\ndata: {json.dumps(piece)}\n\n" for piece in pieces]
        return httpx.Response(200, text="".join([*events, f"event: done\ndata: {json.dumps(answer)}\n\n"]))

    def _complete(self, body: dict[str, Any]) -> httpx.Response:
        name = body["model"].partition("@")[2] or "head"
        revision = self._revision(int(name[1:]) if name.startswith("r") else name)
        headers = {"X-Model-Revision": self.header or str(revision)}
        texts = self.pieces if body.get("stream") else [self.text]
        fields = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": body["model"]}
        usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
        chunks = [
            {
                **fields,
                "system_fingerprint": f"r{revision}",
                "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": None}],
                "usage": usage,
            }
            for text in texts
        ]
        if not body.get("stream"):
            return httpx.Response(200, json=chunks[0], headers=headers)
        events = [f"data: {data}\n\n" for data in [*map(json.dumps, chunks), self.last]]
        return httpx.Response(200, text="".join(events), headers=headers)


def _problem(detail: str) -> dict[str, Any]:
    return {
        "type": "urn:palimpsest:problem:no-worker",
        "title": "No worker",
        "status": 503,
        "detail": f"tiny: {detail}",
    }


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def caller(server: Server) -> Iterator[Caller]:
    plan = Plan("tiny", (), (PROMPT, "A database is"), (), "ft-m", {}, tokens=2, pause=0.0)
    found = Caller(0, Shared("http://load", plan, Truth(), Tally(), threading.Event()))
    found.close()
    found.http = httpx.Client(base_url="http://load", transport=httpx.MockTransport(server))
    found.client._connection.http = found.http
    found.truth.saw(HEAD, 0)
    yield found
    found.http.close()


Ask = Callable[[Caller], None]
TIMES = 30
"""So often that all prompts and revisions are asked for."""

ASKS: tuple[Ask, ...] = (generate, generate_stream, completion, completion_stream)


def often(ask: Ask, caller: Caller) -> None:
    for _ in range(TIMES):
        ask(caller)


@pytest.mark.parametrize("ask", [*ASKS, list_models, metrics])
def test_right_answers_pass_and_are_timed(caller: Caller, ask: Ask) -> None:
    often(ask, caller)
    assert caller.tally.count(ask.__name__) == TIMES


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("first", ASKS)
def test_a_text_that_changes_is_found_whoever_was_told_the_first(
    server: Server, caller: Caller, first: Ask, ask: Ask
) -> None:
    often(first, caller)
    server.text, server.pieces = " Rome, Italy.", (" Rome,", " Italy.")
    with pytest.raises(WrongAnswerError, match="Rome, Italy"):
        often(ask, caller)


@pytest.mark.parametrize("ask", ASKS)
def test_a_revision_that_was_not_asked_for_is_found(server: Server, caller: Caller, ask: Ask) -> None:
    server.off = 1
    with pytest.raises(WrongAnswerError, match="speaks where"):
        often(ask, caller)


@pytest.mark.parametrize(
    ("ask", "lie"),
    [
        (generate, {"parts_at": 0}),
        (generate_stream, {"parts_at": 0}),
        (generate_stream, {"pieces": (" Paris,",)}),
        (generate_stream, {"pieces": (" Paris,", " France.", " Or not.")}),
        (completion, {"header": "9"}),
        (completion_stream, {"header": "9"}),
        (completion_stream, {"last": "{}"}),
        (list_models, {"head": 3}),
        (metrics, {"head": 3}),
        (ready, {"ready": httpx.Response(503, json=_problem("none is running. Start one, and try again."))}),
    ],
)
def test_a_lie_is_found(server: Server, caller: Caller, ask: Ask, lie: dict[str, Any]) -> None:
    vars(server).update(lie)
    with pytest.raises(WrongAnswerError):
        ask(caller)


def test_a_moment_without_anybody_at_the_head_is_a_refusal(caller: Caller) -> None:
    ready(caller)
    assert caller.tally.figures(1.0)["refused"] == {"ready: no-worker": 1}
