"""What a client may send to do harm: compressed bodies, deep values, and ids that would be paths or keys."""

import gzip
import json
import logging
import re
import socket
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi.routing import RouteContext

from service.contracts.problem import FieldError
from service.settings import Settings
from service.wording import field_errors
from tests.service.conftest import serve
from tests.service.routed import label, routes
from tests.service.stand_in import EIFFEL, StandIn, queue_edit

JSON = {"Content-Type": "application/json"}

BOMB = gzip.compress(b" " * 10_000_000)


@pytest.mark.parametrize(
    ("encoding", "content"),
    [("gzip", BOMB), ("deflate", zlib.compress(b"{}")), ("br", b"x"), ("GZIP", b"{}"), ("gzip, identity", b"{}")],
)
def test_a_compressed_body_is_refused_unread(http: httpx.Client, encoding: str, content: bytes) -> None:
    answer = http.post("/edits", content=content, headers={**JSON, "Content-Encoding": encoding})
    assert answer.status_code == 415
    assert answer.headers["Accept-Encoding"] == "identity"
    assert answer.json()["type"].endswith(":encoded-body")


WITHOUT_A_BODY = ["/edits/{edit}/events", "/generate?prompt=a", "/generate?prompt=a&stream=true", "/edits", "/health"]
"""What reads no body, but looks out for the client's leaving, where a body would be met."""


@pytest.mark.parametrize("path", WITHOUT_A_BODY)
def test_a_body_that_nobody_reads_is_refused_as_well(
    http: httpx.Client, worker: StandIn, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    edit = queue_edit(worker.edits).id
    worker.apply(edit)
    encoded = http.request("GET", path.format(edit=edit), content=BOMB, headers={"Content-Encoding": "gzip"})
    assert encoded.status_code == 415
    large = http.request("GET", path.format(edit=edit), content=b" " * 8_000_001)
    assert large.status_code == 413
    assert http.get(path.format(edit=edit), headers={"Content-Encoding": "gzip"}).status_code == 200
    assert caplog.records == []


@pytest.fixture(scope="module")
def strict(valkey_url: str) -> Iterator[httpx.URL]:
    """An API that takes small requests, and takes them fast."""
    settings = Settings(model="test-model", port=0, redis_url=valkey_url, max_body_bytes=10_000, request_timeout=1)
    with contextmanager(serve)(settings) as url:
        yield httpx.URL(url)


@pytest.mark.parametrize("path", WITHOUT_A_BODY)
def test_an_endless_body_that_nobody_reads_takes_nothing_down(
    strict: httpx.URL, worker: StandIn, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its length is not told: whoever asked is answered all the same, and let go."""
    edit = queue_edit(worker.edits).id
    with socket.create_connection((strict.host, strict.port or 0), timeout=60) as connection:
        head = f"GET {path.format(edit=edit)} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode())
        sending = threading.Thread(target=send_for_ever, args=(connection,))
        sending.start()
        assert connection.recv(12) == b"HTTP/1.1 200"
        worker.apply(edit)
        with suppress(ConnectionResetError):
            while connection.recv(65536):
                pass
        sending.join(60)
    assert not sending.is_alive()
    assert httpx.get(strict.join("/health")).status_code == 200
    assert caplog.records == []


def send_for_ever(connection: socket.socket) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with suppress(OSError):
        while True:
            connection.sendall(chunk)


def test_identity_is_no_encoding(http: httpx.Client) -> None:
    answer = http.post("/edits", json=EIFFEL, headers={"Content-Encoding": "identity"})
    assert answer.status_code == 202


LINES = {
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no path": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an authority for a path": b"CONNECT evil.example:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a whole URL": b"GET http://evil.example/edits HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no request": bytes(range(256)),
    "TLS": bytes.fromhex("1603010200010001fc0303") + bytes(500),
    "no host": b"GET /edits HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /edits HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    "a host that is none": b"GET /edits HTTP/1.1\r\nHost: [::1\r\n\r\n",
    "an origin that is none": b"GET /edits HTTP/1.1\r\nHost: localhost\r\nOrigin: http://[\r\n\r\n",
    "two lengths": b"POST /edits HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length of 5000 digits": b"POST /edits HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
    + b"9" * 5000
    + b"\r\n\r\n{}",
    "a length and chunks": b"POST /edits HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a chunk of -1 bytes": b"POST /edits HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n{}",
    "endless trailers": b"POST /edits HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    + b"X: y\r\n" * 20_000,
    "a new line in a header": b"GET /edits HTTP/1.1\r\nHost: localhost\r\nX: a\rY: b\r\n\r\n",
    "a long path": b"GET /edits/" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "other bytes in a path": b"GET /edits/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("name", LINES)
def test_what_is_hardly_http_is_refused(http: httpx.Client, name: str, caplog: pytest.LogCaptureFixture) -> None:
    url = http.base_url
    with socket.create_connection((url.host, url.port or 0), timeout=60) as connection:
        with suppress(OSError):  # then it was refused before all of it was read
            connection.sendall(LINES[name])
        with suppress(ConnectionResetError):
            assert connection.recv(10).startswith(b"HTTP/1.1 4")
    assert http.get("/health").status_code == 200
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


MASSES: dict[str, tuple[str, Any]] = {
    "names": ("/edits", {f"k{at}": 1 for at in range(100_000)}),
    "names of a fact": ("/edits", {"facts": [{f"k{at}": 1 for at in range(100_000)}]}),
    "hyperparameters": ("/edits", {**EIFFEL, "hparams": {f"k{at}": 1 for at in range(100_000)}}),
    "values": ("/edits", {**EIFFEL, "hparams": {"layers": [[]] * 1_000_000}}),
    "groups": ("/edits", {**EIFFEL, "portability": {f"k{at}": 1 for at in range(100_000)}}),
    "paraphrases": ("/edits", {**EIFFEL, "paraphrases": [1] * 300_000}),
    "facts": ("/edits", {"facts": [{}] * 300_000}),
    "facts to score": ("/evaluations", {"facts": [1] * 300_000}),
    "subjects": ("/traces", {"prompt": "a b", "subject": "a", "noise_subjects": [1] * 300_000, "kinds": [1] * 300_000}),
    "records": ("/benchmarks", {"methods": ["rome"], "records": [{}] * 300_000}),
    "methods": ("/benchmarks", {"methods": [{}] * 300_000}),
    "prompts": ("/generate", {"prompt": [1] * 300_000}),
    "turns": ("/generate", {"messages": [{}] * 300_000}),
    "stops": ("/v1/completions", {"model": "test-model", "prompt": "a", "stop": [1] * 300_000}),
    "chat": ("/v1/chat/completions", {"model": "test-model", "messages": [{}] * 300_000}),
}


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("name", MASSES)
def test_a_mass_of_faults_is_told_as_few(http: httpx.Client, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To find and tell all of them, the API would stand still for minutes."""
    told: list[int] = []

    def counting(errors: Iterable[Any]) -> Iterable[FieldError]:
        found = list(errors)
        told.append(len(found))
        return field_errors(found)

    monkeypatch.setattr("service.problems.field_errors", counting)
    path, body = MASSES[name]
    assert http.post(path, json=body).status_code in (400, 422)
    assert sum(told) < 20


def nested(depth: int, inner: Any, *, objects: bool) -> bytes:
    begin, end = (b'{"a":', b"}") if objects else (b"[", b"]")
    return begin * depth + json.dumps(inner).encode() + end * depth


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("depth", [9, 900, 9000])
@pytest.mark.parametrize("objects", [True, False])
@pytest.mark.parametrize(
    "path", ["/edits", "/evaluations", "/traces", "/benchmarks", "/generate", "/v1/chat/completions"]
)
def test_deep_values_are_a_problem_and_no_defect(http: httpx.Client, depth: int, objects: bool, path: str) -> None:
    deep = nested(depth, 1, objects=objects)
    bodies = [deep, b'{"hparams": ' + deep + b"}", b'{"facts": [' + deep + b"]}", b'{"messages": ' + deep + b"}"]
    for body in bodies:
        answer = http.post(path, content=body, headers=JSON)
        assert answer.status_code in (400, 422), (answer.status_code, answer.text[:300])


TRICKS = [
    *("..", "../edits", "....//", "%2e%2e", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "\\..\\", "file:///etc/passwd"),
    *("*", "0123456789abcde*", "0123456789abcdef\n", "0123456789abcdef\0", "0123456789ABCDEF", "x" * 990),
    *("{0.__class__}", "%s%n", "os.getpid", "__import__('os')", "0123456789abcdef:changed", "r1.png/..", "-1", "1e9"),
    *("\N{FULLWIDTH DIGIT NINE}", "r" * 50, "\ud7ff"),
]


def paths() -> list[RouteContext]:
    """Every route whose path takes something from the client."""
    return [route for route in routes() if "{" in str(route.path)]


@pytest.mark.parametrize("route", paths(), ids=label)
def test_what_stands_in_a_path_is_an_id_or_nothing(http: httpx.Client, worker: StandIn, route: RouteContext) -> None:
    before = sorted(worker.redis.keys("*"))
    method = min(route.methods or ())
    for trick in TRICKS:
        given = quote(trick, safe="").replace(".", "%2E")  # or the client would resolve it itself
        begin, end = re.split(r"\{[^}]+\}", str(route.path).replace("{form}", "png"))
        answer = http.request(method, begin + given + end)
        if answer.status_code == 307:  # from a path with a slash at its end to the one without
            assert answer.headers["Location"].startswith(str(http.base_url))
            continue
        assert answer.status_code in (400, 404, 405, 422), (given, answer.status_code, answer.text[:200])
        assert answer.headers["Content-Type"].startswith(("application/problem+json", "application/json"))
        assert "root:" not in answer.text
    assert sorted(worker.redis.keys("*")) == before
