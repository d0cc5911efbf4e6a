"""The client against a running API: what it returns, what it raises, how it follows an edit."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from service import connection
from service.client import Palimpsest
from service.contracts.edits import BatchRequest, Edit, EditRequest, EditStatus
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
from service.failures import JobFailedError, UnreachableError
from service.jobs import utcnow
from tests.service.acting import acting
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
def client(http: httpx.Client) -> Iterator[Palimpsest]:
    """A client of the running API."""
    with Palimpsest(str(http.base_url)) as client:
        yield client


Handler = Callable[[httpx.Request], httpx.Response]


def asking(handler: Handler, **options: Any) -> Palimpsest:
    """A client whose requests are answered by a function."""
    client = Palimpsest("http://test", **options)
    client._connection.http._transport = httpx.MockTransport(handler)
    return client


def answering(*answers: Callable[[], httpx.Response]) -> Palimpsest:
    """A client whose requests get these answers, one after the other."""
    left = iter(answers)
    return asking(lambda _: next(left)())


def test_every_call_returns_its_contract(client: Palimpsest, worker: StandIn) -> None:
    queued = client.edits.submit(REQUEST, idempotency_key="once")
    assert client.edits.submit(REQUEST, idempotency_key="once") == queued
    assert queued.status is EditStatus.QUEUED
    assert queued.request == REQUEST
    worker.apply(queued.id)
    applied = client.edits.get(queued.id)
    assert (applied.status, applied.revision) == (EditStatus.APPLIED, 1)
    assert client.edits.page(limit=1).edits == (applied,)
    assert client.ready().revision == 1
    assert client.model().card.name == "test-model"
    assert client.methods().methods[0].name == "rome"
    answer = client.generate(GenerateRequest(prompt=("a", "b"), max_new_tokens=3))
    assert [result.prompt for result in answer.results] == ["a", "b"]
    rolled = client.rollback(0)
    assert (rolled.kind, rolled.to, rolled.active) == (RevisionKind.ROLLBACK, 0, ())
    assert client.revisions.get(2) == rolled
    assert [revision.revision for revision in client.revisions.page(limit=2).revisions] == [2, 1]


def test_a_batch_is_submitted_and_followed(client: Palimpsest, worker: StandIn) -> None:
    request = BatchRequest.model_validate(batch_json(7))
    queued = client.edits.submit(request, idempotency_key="once")
    assert client.edits.submit(request, idempotency_key="once").id == queued.id
    assert queued.request.facts == request.facts[:3]
    worker.apply(queued.id)
    (applied,) = client.edits.events(queued.id)
    assert (applied.fact_count, len(applied.request.facts)) == (7, 3)
    whole = client.edits.get(queued.id)
    assert whole.request == request
    assert whole.outcome is not None
    assert len(whole.outcome.facts) == 7


def test_facts_are_scored_and_followed(client: Palimpsest, worker: StandIn) -> None:
    request = EvaluationRequest.model_validate({"revision": "base", "facts": batch_json(7)["facts"]})
    queued = client.evaluations.submit(request, idempotency_key="once")
    assert client.evaluations.submit(request, idempotency_key="once") == queued
    cancelled = client.evaluations.cancel(client.evaluations.submit(request).id)
    assert cancelled.status is JobStatus.CANCELLED
    threading.Timer(0.2, worker.evaluate, [queued.id]).start()
    seen = list(client.evaluations.events(queued.id))
    assert (seen[0].status, seen[-1].status) == (JobStatus.QUEUED, JobStatus.COMPLETED)
    whole = client.evaluations.get(queued.id)
    assert whole.request.facts == request.facts
    assert [None if each.result is None else len(each.result.facts) for each in (seen[-1], whole)] == [3, 7]
    assert [each.id for each in client.evaluations.page(limit=2).evaluations] == [cancelled.id, queued.id]


def test_cancel(client: Palimpsest) -> None:
    assert client.edits.cancel(client.edits.submit(REQUEST).id).status is EditStatus.CANCELLED


def test_events_follow_an_edit_to_its_end(client: Palimpsest, worker: StandIn) -> None:
    queued = client.edits.submit(REQUEST)
    threading.Timer(0.2, worker.apply, [queued.id]).start()
    statuses = [edit.status for edit in client.edits.events(queued.id)]
    assert statuses[0] is EditStatus.QUEUED
    assert statuses[-1] is EditStatus.APPLIED


def test_a_problem_is_raised_as_it_came(client: Palimpsest, worker: StandIn) -> None:
    with pytest.raises(ProblemError) as raised:
        client.edits.submit(REQUEST.model_copy(update={"method": "magic"}))
    problem = raised.value.problem
    assert problem.status == 422
    assert problem.type == "urn:palimpsest:problem:unknown-method"
    assert problem.errors[0].field == "method"
    worker.heartbeat(WorkerState.STARTING)
    with pytest.raises(ProblemError, match="starting"):
        client.ready()


def test_the_events_of_an_unknown_edit_are_a_problem(client: Palimpsest) -> None:
    with pytest.raises(ProblemError, match="no edit"):
        next(client.edits.events("no-such-edit"))


@pytest.mark.parametrize(
    "answer", [httpx.Response(502, text="<html>bad gateway</html>"), httpx.Response(200, json={"hello": "world"})]
)
def test_another_server_is_recognised(answer: httpx.Response) -> None:
    with pytest.raises(ProblemError, match=r"http://test/model answered .* not as this version"):
        answering(lambda: answer).model()


def test_a_broken_stream_is_opened_again(client: Palimpsest, worker: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REOPEN_SECONDS", 0.0)
    queued = client.edits.submit(REQUEST)
    worker.apply(queued.id)
    applied = client.edits.get(queued.id)

    def broken() -> httpx.Response:
        raise httpx.ReadError("reset")

    def stream(text: str) -> Callable[[], httpx.Response]:
        return lambda: httpx.Response(200, text=text)

    first = f"event: queued\ndata: {queued.model_dump_json()}\n\ndata: {{cut"
    last = f"data: {applied.model_dump_json()}\n\n"
    again = answering(stream(first), broken, stream(""), stream(last))
    assert list(again.edits.events(queued.id)) == [queued, applied]


def test_a_server_that_stays_away_ends_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REOPEN_SECONDS", 0.0)
    queued = Edit(id="x", status=EditStatus.QUEUED, created_at=utcnow(), request=REQUEST, fact_count=1)
    begun = httpx.Response(200, text=f"data: {queued.model_dump_json()}\n\n")
    answers = iter([begun])

    def away(_: httpx.Request) -> httpx.Response:
        try:
            return next(answers)
        except StopIteration:
            raise httpx.ConnectError("refused") from None

    seen = asking(away, retries=0).edits.events("x")
    assert next(seen) == queued
    with pytest.raises(UnreachableError, match="no server at http://test; start one with"):
        next(seen)


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


def test_a_key_is_sent_as_a_bearer_token(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("Authorization"))
        return httpx.Response(200, text=done().model_dump_json())

    monkeypatch.setenv("PALIMPSEST_API_KEY", "from-the-environment")
    for options in ({"api_key": "given"}, {}):
        asking(answer, **options).generate("p")
    monkeypatch.delenv("PALIMPSEST_API_KEY")
    asking(answer).generate("p")
    assert seen == ["Bearer given", "Bearer from-the-environment", None]


@pytest.mark.parametrize(
    ("given", "environment", "server"),
    [
        (None, None, "http://127.0.0.1:8000"),
        (None, "http://there:1/", "http://there:1"),
        ("here:2", "http://there:1", "http://here:2"),
        ("https://here/below/", None, "https://here/below"),
    ],
)
def test_a_server_is_named_or_taken_from_the_environment(
    given: str | None, environment: str | None, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PALIMPSEST_SERVER", raising=False)
    if environment is not None:
        monkeypatch.setenv("PALIMPSEST_SERVER", environment)
    assert Palimpsest(given).server == server


@pytest.mark.parametrize("given", ["ftp://here", "http://", "::", "http://here:port"])
def test_what_is_no_url_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="is not the URL of a server; give one such as http"):
        Palimpsest(given)


def test_an_edit_is_asked_for_by_its_fields_and_waited_for(client: Palimpsest, worker: StandIn) -> None:
    with acting(worker, worker.apply):
        edit = client.edit(**EIFFEL, target_true="Paris")
        batch = client.edit(**batch_json(7), method="rome")
    assert (edit.status, edit.revision) == (EditStatus.APPLIED, 1)
    assert edit.outcome is not None
    assert (batch.revision, batch.fact_count, len(batch.request.facts)) == (2, 7, 7)
    assert client.revert(edit).revision.revision == 3
    assert set(client.reapply(edit).active) == {batch.id, edit.id}
    assert client.rollback("r1").active == (edit.id,)
    with acting(worker, worker.evaluate, worker.evaluations):
        scored = client.evaluate(facts="active")
    assert scored.result is not None
    assert scored.result.revision == 5


def test_an_edit_that_fails_is_raised_with_the_edit(client: Palimpsest, worker: StandIn) -> None:
    problem = ProblemError(422, "no-such-token", "The subject has no tokens.").problem
    with (
        acting(worker, lambda edit_id: worker.edits.end(edit_id, EditStatus.FAILED, problem)),
        pytest.raises(JobFailedError, match="The subject has no tokens") as raised,
    ):
        client.edit(**EIFFEL)
    assert raised.value.problem == problem
    assert raised.value.job.status is EditStatus.FAILED
    cancelled = client.edits.cancel(client.edits.submit(**EIFFEL))
    with pytest.raises(JobFailedError, match=f"Edit {cancelled.id} is cancelled"):
        client.edits.wait(cancelled)


@pytest.mark.usefixtures("worker")
def test_a_prompt_or_several_are_continued(client: Palimpsest) -> None:
    one = client.generate("a", before="r0", max_new_tokens=3)
    assert [result.prompt for result in one.results] == ["a"]
    assert [result.prompt for result in client.generate(["a", "b"]).results] == ["a", "b"]
    *_, last = client.stream("a", seed=7)
    assert isinstance(last, GenerateAnswer)
    assert last.seed == 7


def test_wrong_fields_are_refused_before_anything_is_sent() -> None:
    nobody = asking(lambda _: pytest.fail("it was sent"))
    with pytest.raises(ValidationError, match="colour"):
        nobody.edit(**EIFFEL, colour="red")
    with pytest.raises(ValidationError, match="must occur in the prompt"):
        nobody.edits.submit(prompt="x", subject="y", target_new="z")
    with pytest.raises(TypeError, match="not both"):
        nobody.edit(REQUEST, prompt="x")
    with pytest.raises(TypeError, match="not both"):
        nobody.generate(GenerateRequest(prompt=("p",)), n=2)


def test_every_page_is_walked_through(client: Palimpsest, worker: StandIn) -> None:
    ids = [client.edits.submit(**EIFFEL).id for _ in range(5)]
    client.edits.cancel(ids[1])
    worker.apply(ids[0])
    assert [edit.id for edit in client.edits.all(at_once=2)] == ids[::-1]
    assert [edit.id for edit in client.edits.all(status="cancelled", at_once=2)] == [ids[1]]
    for _ in range(4):
        client.rollback(0)
    assert [revision.revision for revision in client.revisions.all(at_once=2)] == [5, 4, 3, 2, 1, 0]
