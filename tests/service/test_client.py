"""The client against a running API: what it returns, what it raises, how it follows an edit."""

from collections.abc import Callable, Iterator

import httpx
import pytest
from pydantic import ValidationError

from service import connection
from service.client import Palimpsest
from service.contracts.edits import BatchRequest, Edit, EditStatus
from service.contracts.evaluations import EvaluationRequest
from service.contracts.generate import (
    GenerateAnswer,
    GenerateRequest,
)
from service.contracts.jobs import JobStatus
from service.contracts.model import WorkerState
from service.contracts.revisions import RevisionKind
from service.errors import ProblemError
from service.failures import JobFailedError, UnreachableError
from service.jobs import utcnow
from tests.service.acting import acting
from tests.service.answering import REQUEST, answering, asking, model_status
from tests.service.stand_in import EIFFEL, StandIn, batch_json


@pytest.fixture
def client(http: httpx.Client) -> Iterator[Palimpsest]:
    """A client of the running API."""
    with Palimpsest(str(http.base_url)) as client:
        yield client


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
    seen = []
    for told in client.evaluations.events(queued.id):
        seen.append(told)
        if len(seen) == 1:
            worker.evaluate(queued.id)
    assert (seen[0].status, seen[-1].status) == (JobStatus.QUEUED, JobStatus.COMPLETED)
    whole = client.evaluations.get(queued.id)
    assert whole.request.facts == request.facts
    assert [None if each.result is None else len(each.result.facts) for each in (seen[-1], whole)] == [3, 7]
    assert [each.id for each in client.evaluations.page(limit=2).evaluations] == [cancelled.id, queued.id]


def test_cancel(client: Palimpsest) -> None:
    assert client.edits.cancel(client.edits.submit(REQUEST).id).status is EditStatus.CANCELLED


def test_events_follow_an_edit_to_its_end(client: Palimpsest, worker: StandIn) -> None:
    queued = client.edits.submit(REQUEST)
    statuses = []
    for edit in client.edits.events(queued.id):
        statuses.append(edit.status)
        if len(statuses) == 1:
            worker.apply(queued.id)
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


def test_a_key_is_sent_as_a_bearer_token(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("Authorization"))
        return httpx.Response(200, text=model_status().model_dump_json())

    monkeypatch.setenv("PALIMPSEST_API_KEY", "from-the-environment")
    for options in ({"api_key": "given"}, {}):
        asking(answer, **options).model()
    monkeypatch.delenv("PALIMPSEST_API_KEY")
    asking(answer).model()
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
