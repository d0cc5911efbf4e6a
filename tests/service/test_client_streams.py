"""What a client hears as it comes: both sides of prompts, one side of a conversation, and how that ends."""

import time
from collections.abc import Iterator

import httpx
import pytest

from service.client import Palimpsest
from service.contracts.generate import (
    Comparison,
    Continuation,
    FinishReason,
    GenerateAnswer,
    GeneratedPiece,
    GenerateRequest,
    Message,
    Side,
)
from service.errors import ProblemError
from service.failures import NotFoundError
from tests.service.answering import answering, asking, model_status
from tests.service.stand_in import StandIn

PIECE = GeneratedPiece(
    prompt=0,
    alternative=0,
    side=Side.BEFORE,
    revision=0,
    text="\u2028",
    tokens=("\u2028",),
    token_ids=(7,),
    logprobs=(0,),
)


@pytest.fixture
def client(http: httpx.Client) -> Iterator[Palimpsest]:
    """A client of the running API."""
    with Palimpsest(str(http.base_url)) as client:
        yield client


class Stream(httpx.SyncByteStream):
    """An answer's body that notes when it is closed."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from (self.text[at : at + 5].encode() for at in range(0, len(self.text), 5))

    def close(self) -> None:
        self.closed = True


def streaming(text: str) -> tuple[Palimpsest, Stream]:
    """A client whose only request is answered with events."""
    stream = Stream(text)
    return answering(lambda: httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=stream)), stream


def done() -> GenerateAnswer:
    """An answer of one prompt."""
    side = Continuation(
        revision=0,
        text=PIECE.text,
        tokens=PIECE.tokens,
        token_ids=PIECE.token_ids,
        logprobs=PIECE.logprobs,
        finish_reason=FinishReason.LENGTH,
        seconds=0.1,
    )
    result = Comparison(prompt="p", before=side, after=side, parts_at=None)
    return GenerateAnswer(revision=0, model="m", seed=1, results=(result,), seconds=0.1)


def test_a_stream_gives_the_pieces_and_last_the_answer() -> None:
    piece = f"event: piece\ndata: {PIECE.model_dump_json()}\n\n"
    last = f": alive\n\nevent: news\ndata: {{}}\n\nevent: done\ndata: {done().model_dump_json()}\n\n"
    client, stream = streaming(piece + piece + last)
    assert list(client.stream(GenerateRequest(prompt=("p",)))) == [PIECE, PIECE, done()]
    assert stream.closed


@pytest.mark.usefixtures("worker")
def test_a_server_streams_to_it(client: Palimpsest) -> None:
    request = GenerateRequest(prompt=("a",), seed=7)
    *pieces, last = client.stream(request)
    assert [piece.text for piece in pieces if isinstance(piece, GeneratedPiece)] == [" at", " at", " base", " head"]
    assert isinstance(last, GenerateAnswer)
    assert last == client.generate(request)


def test_a_server_is_told_that_it_went_away(client: Palimpsest, worker: StandIn) -> None:
    worker.answer = lambda request: worker.answers(request)[:-1]
    said = client.stream(GenerateRequest(prompt=("a",)))
    next(said)
    said.close()
    limit = time.monotonic() + 60
    while not worker.gone and time.monotonic() < limit:
        time.sleep(0.01)
    assert worker.gone == [worker.asked[-1].id]


def test_a_problem_in_a_stream_is_raised() -> None:
    problem = ProblemError(504, "no-answer", "It took too long.").problem
    client, stream = streaming(f"event: problem\ndata: {problem.model_dump_json()}\n\n")
    with pytest.raises(ProblemError) as raised:
        list(client.stream(GenerateRequest(prompt=("p",))))
    assert raised.value.problem == problem
    assert stream.closed


def test_who_leaves_a_stream_closes_the_connection() -> None:
    client, stream = streaming(f"event: piece\ndata: {PIECE.model_dump_json()}\n\n" * 2)
    said = client.stream(GenerateRequest(prompt=("p",)))
    assert next(said) == PIECE
    assert not stream.closed
    del said
    assert stream.closed


@pytest.mark.parametrize(
    ("text", "name"), [("event: piece\ndata: {}\n\n", "unexpected-answer"), (": alive\n\n", "stream-broken")]
)
def test_a_stream_that_is_not_whole_is_a_problem(text: str, name: str) -> None:
    with pytest.raises(ProblemError) as raised:
        list(streaming(text)[0].stream(GenerateRequest(prompt=("p",))))
    assert raised.value.problem.type.endswith(name)


@pytest.mark.parametrize(("timeout", "read"), [(None, 630), (10, 90), (900, 930)])
def test_a_long_generation_is_waited_for(timeout: float | None, read: float) -> None:
    waited: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        waited.append(request.extensions["timeout"]["read"])
        return httpx.Response(200, text=done().model_dump_json())

    client = asking(answer)
    assert client.generate(GenerateRequest(prompt=("p",), timeout=timeout, stream=True)) == done()
    assert waited == [read]


@pytest.mark.usefixtures("worker")
def test_a_conversation_is_answered_by_one_revision(client: Palimpsest, worker: StandIn) -> None:
    worker.publish(chat=True)
    said: list[Message | dict[str, str]] = [
        Message(role="system", content="Be brief."),
        {"role": "user", "content": "Where?"},
    ]
    for revision, text, fingerprint in (("base", " at base", "r0"), (0, " at 0", "r0"), ("head", " at head", "r0")):
        chunks = list(client.chat(said, revision, max_tokens=3))
        assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == text
        assert {chunk.system_fingerprint for chunk in chunks} == {fingerprint}
    with pytest.raises(NotFoundError, match="@r9' does not exist"):
        list(client.chat(said, "r9"))
    worker.publish(chat=False)
    with pytest.raises(ProblemError, match="no chat template") as raised:
        list(client.chat(said))
    assert (raised.value.problem.status, raised.value.problem.type[-16:]) == (422, "no-chat-template")


def test_an_error_amid_a_conversation_is_raised() -> None:
    error = '{"error":{"message":"It took too long.","type":"server_error","param":null,"code":"no_answer"}}'
    model = model_status().model_dump_json()
    answers = iter([model, f"data: {error}\n\n", model, ": alive\n\n"])
    client = asking(lambda _: httpx.Response(200, text=next(answers)))
    asked = [{"role": "user", "content": "Where?"}]
    with pytest.raises(ProblemError, match="It took too long") as raised:
        list(client.chat(asked))
    assert raised.value.problem.type.endswith("no-answer")
    with pytest.raises(ProblemError, match="before the answer was whole"):
        list(client.chat(asked))
