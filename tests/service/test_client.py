"""The client against a running API: what it returns, what it raises, how it follows an edit."""

import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from service import connection
from service.client import Client
from service.contracts.edits import BatchRequest, EditRequest, EditStatus
from service.contracts.evaluations import EvaluationRequest
from service.contracts.generate import (
    Comparison,
    Continuation,
    FinishReason,
    GenerateAnswer,
    GeneratedPiece,
    GenerateRequest,
    Side,
)
from service.contracts.jobs import JobStatus
from service.contracts.model import WorkerState
from service.contracts.revisions import RevisionKind
from service.errors import ProblemError
from tests.service.stand_in import EIFFEL, StandIn, batch_json

REQUEST = EditRequest.model_validate(EIFFEL)

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
def client(http: httpx.Client) -> Iterator[Client]:
    """A client of the running API."""
    with Client(str(http.base_url)) as client:
        yield client


def answering(*answers: Callable[[], httpx.Response]) -> Client:
    """A client whose requests get these answers, one after the other."""
    left = iter(answers)
    client = Client("http://test")
    client._http = httpx.Client(base_url="http://test", transport=httpx.MockTransport(lambda _: next(left)()))
    return client


def test_every_call_returns_its_contract(client: Client, worker: StandIn) -> None:
    queued = client.submit(REQUEST, idempotency_key="once")
    assert client.submit(REQUEST, idempotency_key="once") == queued
    assert queued.status is EditStatus.QUEUED
    assert queued.request == REQUEST
    worker.apply(queued.id)
    applied = client.edit(queued.id)
    assert (applied.status, applied.revision) == (EditStatus.APPLIED, 1)
    assert client.edits(limit=1).edits == (applied,)
    assert client.ready().revision == 1
    assert client.model().card.name == "test-model"
    assert client.methods().methods[0].name == "rome"
    answer = client.generate(GenerateRequest(prompt=("a", "b"), max_new_tokens=3))
    assert [result.prompt for result in answer.results] == ["a", "b"]
    rolled = client.rollback(0)
    assert (rolled.kind, rolled.to, rolled.active) == (RevisionKind.ROLLBACK, 0, ())
    assert client.revision(2) == rolled
    assert [revision.revision for revision in client.revisions(limit=2).revisions] == [2, 1]


def test_a_batch_is_submitted_and_followed(client: Client, worker: StandIn) -> None:
    request = BatchRequest.model_validate(batch_json(7))
    queued = client.submit(request, idempotency_key="once")
    assert client.submit(request, idempotency_key="once").id == queued.id
    assert queued.request.facts == request.facts[:3]
    worker.apply(queued.id)
    (applied,) = client.events(queued.id)
    assert (applied.fact_count, len(applied.request.facts)) == (7, 3)
    whole = client.edit(queued.id)
    assert whole.request == request
    assert whole.outcome is not None
    assert len(whole.outcome.facts) == 7


def test_facts_are_scored_and_followed(client: Client, worker: StandIn) -> None:
    request = EvaluationRequest.model_validate({"revision": "base", "facts": batch_json(7)["facts"]})
    queued = client.evaluate(request, idempotency_key="once")
    assert client.evaluate(request, idempotency_key="once") == queued
    cancelled = client.cancel_evaluation(client.evaluate(request).id)
    assert cancelled.status is JobStatus.CANCELLED
    threading.Timer(0.2, worker.evaluate, [queued.id]).start()
    seen = list(client.evaluation_events(queued.id))
    assert (seen[0].status, seen[-1].status) == (JobStatus.QUEUED, JobStatus.COMPLETED)
    whole = client.evaluation(queued.id)
    assert whole.request.facts == request.facts
    assert [None if each.result is None else len(each.result.facts) for each in (seen[-1], whole)] == [3, 7]
    assert [each.id for each in client.evaluations(limit=2).evaluations] == [cancelled.id, queued.id]


def test_cancel(client: Client) -> None:
    assert client.cancel(client.submit(REQUEST).id).status is EditStatus.CANCELLED


def test_events_follow_an_edit_to_its_end(client: Client, worker: StandIn) -> None:
    queued = client.submit(REQUEST)
    threading.Timer(0.2, worker.apply, [queued.id]).start()
    statuses = [edit.status for edit in client.events(queued.id)]
    assert statuses[0] is EditStatus.QUEUED
    assert statuses[-1] is EditStatus.APPLIED


def test_a_problem_is_raised_as_it_came(client: Client, worker: StandIn) -> None:
    with pytest.raises(ProblemError) as raised:
        client.submit(REQUEST.model_copy(update={"method": "magic"}))
    problem = raised.value.problem
    assert problem.status == 422
    assert problem.type == "urn:palimpsest:problem:unknown-method"
    assert problem.errors[0].field == "method"
    worker.heartbeat(WorkerState.STARTING)
    with pytest.raises(ProblemError, match="starting"):
        client.ready()


def test_the_events_of_an_unknown_edit_are_a_problem(client: Client) -> None:
    with pytest.raises(ProblemError, match="no edit"):
        next(client.events("no-such-edit"))


@pytest.mark.parametrize(
    "answer", [httpx.Response(502, text="<html>bad gateway</html>"), httpx.Response(200, json={"hello": "world"})]
)
def test_another_server_is_recognised(answer: httpx.Response) -> None:
    with pytest.raises(ProblemError, match=r"http://test/model answered .* not as this version"):
        answering(lambda: answer).model()


def test_a_broken_stream_is_opened_again(client: Client, worker: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REOPEN_SECONDS", 0.0)
    queued = client.submit(REQUEST)
    worker.apply(queued.id)
    applied = client.edit(queued.id)

    def broken() -> httpx.Response:
        raise httpx.ReadError("reset")

    def stream(text: str) -> Callable[[], httpx.Response]:
        return lambda: httpx.Response(200, text=text)

    first = f"event: queued\ndata: {queued.model_dump_json()}\n\ndata: {{cut"
    last = f"data: {applied.model_dump_json()}\n\n"
    again = answering(stream(first), broken, stream(""), stream(last))
    assert list(again.events(queued.id)) == [queued, applied]


def test_a_server_that_stays_away_ends_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REOPEN_SECONDS", 0.0)

    def away() -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(httpx.ConnectError):
        next(answering(*[away] * (connection.REOPEN_ATTEMPTS + 1)).events("x"))


class Stream(httpx.SyncByteStream):
    """An answer's body that notes when it is closed."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from (self.text[at : at + 5].encode() for at in range(0, len(self.text), 5))

    def close(self) -> None:
        self.closed = True


def streaming(text: str) -> tuple[Client, Stream]:
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
def test_a_server_streams_to_it(client: Client) -> None:
    request = GenerateRequest(prompt=("a",), seed=7)
    *pieces, last = client.stream(request)
    assert [piece.text for piece in pieces if isinstance(piece, GeneratedPiece)] == [" at", " at", " base", " head"]
    assert isinstance(last, GenerateAnswer)
    assert last == client.generate(request)


def test_a_server_is_told_that_it_went_away(client: Client, worker: StandIn) -> None:
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

    client = Client("http://test")
    client._http = httpx.Client(base_url="http://test", transport=httpx.MockTransport(answer))
    assert client.generate(GenerateRequest(prompt=("p",), timeout=timeout, stream=True)) == done()
    assert waited == [read]
