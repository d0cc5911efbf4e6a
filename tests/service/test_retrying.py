"""What a client sends again by itself, how often, and with which words."""

import time
from collections.abc import Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import retrying
from service.client import Palimpsest
from service.errors import ProblemError
from service.failures import ConflictError, NotFoundError, UnavailableError, UnreachableError
from tests.service.stand_in import EIFFEL

Call = Callable[[Palimpsest], object]

CALLS: dict[str, Call] = {
    "look": lambda p: p.edits.get("e"),
    "list": lambda p: p.revisions.page(),
    "keyed": lambda p: p.edits.submit(**EIFFEL),
    "generate": lambda p: p.generate("x"),
    "stream": lambda p: next(p.stream("x")),
    "report": lambda p: p.benchmarks.report("b"),
    "rollback": lambda p: p.rollback(0),
    "revert": lambda p: p.revert("e"),
    "cancel": lambda p: p.edits.cancel("e"),
    "ready": lambda p: p.ready(),
}
REPEATABLE = {"look", "list", "keyed", "generate", "stream", "report"}


class Server:
    """Fails every request in the same way, and keeps them."""

    def __init__(self, failure: httpx.Response | Exception) -> None:
        self.failure = failure
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if isinstance(self.failure, Exception):
            raise self.failure
        return httpx.Response(self.failure.status_code, headers=self.failure.headers, content=self.failure.content)


def client_of(server: Callable[[httpx.Request], httpx.Response], retries: int = 2) -> Palimpsest:
    client = Palimpsest("http://test", "secret", retries=retries)
    client._connection.http._transport = httpx.MockTransport(server)
    return client


def refused(status: int, **headers: str) -> httpx.Response:
    problem = ProblemError(status, "some-name", "The dog ate it.").problem
    return httpx.Response(status, headers=headers, content=problem.model_dump_json())


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was waited for, instead of waiting."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


@pytest.mark.parametrize("name", CALLS)
def test_what_has_not_left_is_sent_again_whatever_it_is(name: str, waits: list[float]) -> None:
    server = Server(httpx.ConnectError("refused"))
    with pytest.raises(UnreachableError, match="no server at http://test; start one with: palimpsest up"):
        CALLS[name](client_of(server))
    assert len(server.asked) == 3
    assert waits == [retrying.BACKOFF_SECONDS, 2 * retrying.BACKOFF_SECONDS]


@pytest.mark.parametrize("failure", [httpx.ReadError("reset"), httpx.RemoteProtocolError("hung up"), refused(503)])
@pytest.mark.parametrize("name", CALLS)
def test_what_may_have_arrived_is_sent_again_only_where_that_does_no_harm(
    name: str, failure: httpx.Response | Exception, waits: list[float]
) -> None:
    server = Server(failure)
    with pytest.raises(UnavailableError):
        CALLS[name](client_of(server))
    assert len(server.asked) == (3 if name in REPEATABLE else 1)
    assert len(waits) == len(server.asked) - 1


def test_an_edit_keeps_its_own_key_when_it_is_sent_again(waits: list[float]) -> None:
    server = Server(httpx.ReadError("reset"))
    client = client_of(server)
    for _ in range(2):
        with pytest.raises(UnreachableError, match="broke"):
            client.edits.submit(**EIFFEL)
    keys = [request.headers["Idempotency-Key"] for request in server.asked]
    assert len(set(keys[:3])) == len(set(keys[3:])) == 1
    assert len(set(keys)) == 2
    assert len({request.content for request in server.asked}) == 1
    assert len(waits) == 4
    with pytest.raises(UnreachableError):
        client.edits.submit(**EIFFEL, idempotency_key="mine")
    assert server.asked[-1].headers["Idempotency-Key"] == "mine"


@pytest.mark.parametrize(("asked", "waited"), [("3", 3), ("3600", retrying.MOST_SECONDS), ("soon", 0.25)])
def test_a_server_says_when_to_come_back(asked: str, waited: float, waits: list[float]) -> None:
    server = Server(refused(429, **{"Retry-After": asked}))
    with pytest.raises(UnavailableError, match="The dog ate it"):
        client_of(server, 1).model()
    assert waits == [waited]


def test_who_asks_for_no_repetition_gets_none(waits: list[float]) -> None:
    server = Server(refused(503, **{"Retry-After": "7"}))
    with pytest.raises(UnavailableError) as raised:
        client_of(server, 0).model()
    assert (len(server.asked), waits, raised.value.retry_after) == (1, [], 7)


@pytest.mark.parametrize(("status", "kind"), [(404, NotFoundError), (409, ConflictError), (422, ProblemError)])
def test_a_refusal_is_final_and_of_a_kind(status: int, kind: type[ProblemError], waits: list[float]) -> None:
    server = Server(refused(status))
    with pytest.raises(ProblemError) as raised:
        client_of(server).edits.get("e")
    assert type(raised.value) is kind
    assert (raised.value.problem.status, len(server.asked), waits) == (status, 1, [])


def test_an_answer_that_takes_too_long_is_not_waited_for_again(waits: list[float]) -> None:
    server = Server(httpx.ReadTimeout("slow"))
    with pytest.raises(UnreachableError, match="did not answer in time"):
        client_of(server).model()
    assert (len(server.asked), waits) == (1, [])


@given(st.integers(0, 40), st.sampled_from(["", "0", "2", "99", "1.5", "-1", "²", "Wed, 21 Oct 2026 07:28:00 GMT"]))
def test_no_wait_is_longer_than_the_longest(attempt: int, asked: str) -> None:
    answer = httpx.Response(503, headers=[(b"Retry-After", asked.encode())])
    seconds = retrying.after_answer(answer, attempt, repeatable=True)
    assert seconds is not None
    assert 0 <= seconds <= retrying.MOST_SECONDS
    assert retrying.after_answer(answer, attempt, repeatable=False) is None
