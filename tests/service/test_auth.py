"""Access over HTTP: who is let in, to what, and what he is told otherwise."""

import re
from itertools import chain
from typing import Any

import httpx
import pytest
from redis import Redis

from service.apikeys import USED, ApiKeys
from service.auth import refuse_open
from service.claims import UpError
from service.contracts.access import Scope
from service.keys import Keys
from service.settings import Settings
from tests.service.asking_as import bearer, served
from tests.service.stand_in import EIFFEL, StandIn, queue_edit

NEEDS: dict[Scope, list[tuple[str, str, Any]]] = {
    Scope.READ: [
        ("GET", "/edits", None),
        ("GET", "/generate?prompt=a", None),
        ("GET", "/v1/models", None),
        ("GET", "/metrics", None),
        ("POST", "/v1/completions", {"model": "test-model", "prompt": "a"}),
    ],
    Scope.EDIT: [
        ("POST", "/edits", EIFFEL),
        ("POST", "/evaluations", {"facts": [EIFFEL]}),
        ("POST", "/rollback", {"to": 0}),
    ],
    Scope.ADMIN: [("GET", "/revisions/r9/checkpoint", None)],
}


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("scope", list(Scope))
def test_a_key_opens_what_its_scope_includes(http: httpx.Client, redis: Redis, scope: Scope) -> None:
    token = ApiKeys(redis).create("ci", scope)
    for needed, requests in NEEDS.items():
        for method, path, body in requests:
            answer = http.request(method, path, json=body, headers=bearer(token))
            if scope.includes(needed):
                assert answer.status_code not in (401, 403), (path, answer.text)
            else:
                assert answer.status_code == 403, path
                assert answer.json()["type"].endswith(":scope-missing")
                assert f"scope {needed}" in answer.json()["detail"]
                assert f"has {scope}" in answer.json()["detail"]


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer x", "Basic cGFsaW1wc2VzdA==", "Bearer palimpsest_ci.{other}"])
def test_without_a_good_key_nobody_gets_in(http: httpx.Client, redis: Redis, header: str) -> None:
    keys = ApiKeys(redis)
    keys.create("ci", Scope.ADMIN)
    other = keys.create("other", Scope.ADMIN).partition(".")[2]
    headers = {"Authorization": header.format(other=other)} if header else {}
    for method, path, body in chain.from_iterable(NEEDS.values()):
        answer = http.request(method, path, json=body, headers=headers)
        assert answer.status_code == 401, path
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    problem = http.get("/nowhere", headers=headers)
    assert problem.status_code == 401
    assert problem.headers["Content-Type"] == "application/problem+json"
    assert problem.json()["request_id"] == problem.headers["X-Request-Id"]
    assert re.search(":key-(missing|refused)$", problem.json()["type"])


@pytest.mark.usefixtures("worker")
def test_what_needs_no_key(http: httpx.Client, redis: Redis) -> None:
    ApiKeys(redis).create("ci", Scope.READ)
    for path in ("/", "/health", "/ready", "/docs", "/openapi.json", "/playground/style.css"):
        assert http.get(path).status_code == 200, path
    assert http.get("/playground/../edits").status_code != 200
    assert http.get("/playground/%2e%2e/edits").status_code != 200


def test_a_refused_body_is_not_read(http: httpx.Client, redis: Redis) -> None:
    ApiKeys(redis).create("ci", Scope.READ)
    assert http.post("/edits", content=b"{" * 100_000).status_code == 401


def test_under_v1_a_refusal_has_openais_shape(http: httpx.Client, redis: Redis) -> None:
    token = ApiKeys(redis).create("ci", Scope.READ)
    ApiKeys(redis).revoke("ci")
    answer = http.get("/v1/models", headers=bearer(token))
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert "WWW-Authenticate" in answer.headers


def test_a_revoked_key_opens_nothing_from_then_on(http: httpx.Client, redis: Redis) -> None:
    keys = ApiKeys(redis)
    token = keys.create("ci", Scope.READ)
    assert http.get("/edits", headers=bearer(token)).status_code == 200
    keys.revoke("ci")
    assert http.get("/edits", headers=bearer(token)).status_code == 401
    assert http.get("/edits").status_code == 401, "the last key was revoked, and the door stood open"


def test_the_hour_of_use_is_kept(http: httpx.Client, redis: Redis) -> None:
    keys = ApiKeys(redis)
    token = keys.create("hourly", Scope.READ)
    assert keys.listed()[0].last_used is None
    http.get("/edits", headers=bearer(token))
    used = keys.listed()[0].last_used
    assert used is not None
    assert (used.minute, used.second) == (0, 0)
    redis.hdel(USED, "hourly")
    http.get("/edits", headers=bearer(token))
    assert keys.listed()[0].last_used is None, "it is written once an hour"


@pytest.mark.usefixtures("worker")
def test_each_key_has_its_own_idempotency_keys(http: httpx.Client, redis: Redis) -> None:
    headers = [{**bearer(ApiKeys(redis).create(name, Scope.EDIT)), "Idempotency-Key": "1"} for name in ("ada", "bob")]
    first, other = (http.post("/edits", json=EIFFEL, headers=its) for its in headers)
    assert (first.status_code, other.status_code) == (202, 202)
    assert other.headers["Location"] != first.headers["Location"]
    again = http.post("/edits", json=EIFFEL, headers=headers[0])
    assert again.headers["Location"] == first.headers["Location"]


def test_who_asked_is_told_of_a_job(http: httpx.Client, redis: Redis) -> None:
    keys = ApiKeys(redis)
    one, other = keys.create("one", Scope.EDIT), keys.create("other", Scope.EDIT)
    made = http.post("/edits", json=EIFFEL, headers={**bearer(one), "X-Request-Id": "ask"}).json()
    assert (made["by"], made["request_id"], made["cancelled_by"]) == ("one", "ask", None)
    path = f"/edits/{made['id']}"
    http.delete(path, headers={**bearer(other), "X-Request-Id": "stop"})
    found = http.get(path, headers=bearer(one)).json()
    assert (found["by"], found["cancelled_by"]) == ("one", {"by": "other", "request_id": "stop"})
    assert http.get("/edits", headers=bearer(one)).json()["edits"][0]["by"] == "one"


def test_without_keys_the_request_alone_is_told(http: httpx.Client) -> None:
    made = http.post("/edits", json=EIFFEL, headers={"X-Request-Id": "ask"}).json()
    assert (made["by"], made["request_id"]) == (None, "ask")


def test_who_asks_reaches_the_worker(http: httpx.Client, worker: StandIn) -> None:
    token = ApiKeys(worker.redis).create("ci", Scope.EDIT)
    edit = queue_edit(worker.edits)
    worker.apply(edit.id)
    headers = {**bearer(token), "X-Request-Id": "back"}
    for path, body in (
        ("/rollback", {"to": 0}),
        (f"/edits/{edit.id}/reapply", None),
        (f"/edits/{edit.id}/revert", None),
    ):
        http.post(path, json=body, headers=headers)
        assert (worker.asked[-1].by, worker.asked[-1].request_id) == ("ci", "back")
    http.get("/generate?prompt=a", headers=headers)
    assert worker.asked[-1].body.client == "ci"  # type: ignore[union-attr]


def test_where_others_can_ask_nobody_is_let_in_without_a_key(redis: Redis, valkey_url: str) -> None:
    with served(valkey_url, host="0.0.0.0") as http:  # noqa: S104 - that is the point
        assert http.get("/edits").status_code == 401
        assert http.get("/health").status_code == 200
        token = ApiKeys(redis).create("ci", Scope.READ)
        assert http.get("/edits", headers=bearer(token)).status_code == 200
        redis.flushall()
        assert http.get("/edits").status_code == 401, "Redis was emptied, and the door stood open"


def test_it_does_not_start_where_others_could_ask_without_a_key(redis: Redis, valkey_url: str, keys: Keys) -> None:
    away = Settings(model=keys.model, host="0.0.0.0")  # noqa: S104
    with pytest.raises(UpError, match=r"palimpsest keys create .*--insecure"):
        refuse_open(away, valkey_url)
    refuse_open(away.model_copy(update={"insecure": True}), valkey_url)
    refuse_open(away.model_copy(update={"host": "127.0.0.1"}), valkey_url)
    ApiKeys(redis).create("ci", Scope.READ)
    refuse_open(away, valkey_url)


def test_callers_are_limited_one_by_one(redis: Redis, valkey_url: str) -> None:
    keys = ApiKeys(redis)
    one, other = keys.create("one", Scope.READ), keys.create("other", Scope.READ)
    with served(valkey_url, rate=0.01, burst=3) as http:
        assert [http.get("/edits", headers=bearer(one)).status_code for _ in range(4)] == [200, 200, 200, 429]
        refused = http.get("/v1/models", headers=bearer(one))
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) > 1
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert http.get("/edits", headers=bearer(other)).status_code == 200
        assert http.get("/health").status_code == 200
        # uvicorn takes this from whoever sits before it at this machine
        guess = {"X-Forwarded-For": "192.0.2.7"}
        assert [http.get("/edits", headers=guess).status_code for _ in range(4)] == [401, 401, 401, 429]
        assert http.get("/edits").status_code == 401, "this machine is not to be held back by others' guesses"


def test_streams_count_as_long_as_they_are_open(redis: Redis, valkey_url: str, keys: Keys) -> None:
    with StandIn(redis, keys) as worker, served(valkey_url, max_concurrent=2) as http:
        token = ApiKeys(redis).create("ci", Scope.READ)
        path = f"/edits/{queue_edit(worker.edits).id}/events"
        with http.stream("GET", path, headers=bearer(token)) as one, http.stream("GET", path, headers=bearer(token)):
            assert one.status_code == 200
            refused = http.get("/edits", headers=bearer(token))
            assert refused.status_code == 429
            assert refused.headers["Retry-After"] == "1"
            assert refused.json()["type"].endswith(":too-many-at-once")
        for _ in range(600):
            if http.get("/edits", headers=bearer(token)).status_code == 200:
                return
        raise AssertionError("the streams have ended, and are counted still")


def test_a_batch_limit_of_the_operators(valkey_url: str, redis: Redis) -> None:
    assert redis.ping()
    facts = [{**EIFFEL, "prompt": f"{number}. {EIFFEL['prompt']}"} for number in range(3)]
    with served(valkey_url, max_facts=2) as http:
        assert http.post("/edits", json={"facts": facts[:2]}).status_code == 202
        refused = http.post("/edits", json={"facts": facts})
        assert refused.status_code == 422
        assert refused.json()["errors"] == [
            {"field": "facts", "detail": "has 3 facts, and at most 2 are taken; send them in parts"}
        ]


@pytest.mark.usefixtures("worker")
def test_ready_costs_something_so_it_is_counted(valkey_url: str) -> None:
    with served(valkey_url, rate=0.01, burst=2, insecure=True) as http:
        asked = [http.get("/ready", headers={"X-Forwarded-For": "192.0.2.8"}) for _ in range(3)]
        assert [answer.status_code for answer in asked] == [200, 200, 429]
        assert http.get("/ready", headers={"X-Forwarded-For": "192.0.2.9"}).status_code == 200
        assert http.get("/health", headers={"X-Forwarded-For": "192.0.2.8"}).status_code == 200


def test_who_may_only_read_sends_no_large_bodies(http: httpx.Client, redis: Redis) -> None:
    """They are taken apart before a route is asked, and everybody waits meanwhile."""
    keys = ApiKeys(redis)
    reader, editor = keys.create("reader", Scope.READ), keys.create("editor", Scope.EDIT)
    body = b"[" + b"[]," * 700_000 + b"[]]"
    for path in ("/edits", "/generate", "/v1/chat/completions"):
        assert http.post(path, content=body, headers=bearer(reader)).status_code == 413, path
    assert http.post("/edits", content=body, headers=bearer(editor)).status_code == 422
