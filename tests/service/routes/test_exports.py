"""Exports over HTTP: an archive that is whole or seen to be broken, and of which nothing stays behind."""

import hashlib
import io
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from redis import Redis

from service.contracts.exports import ExportManifest, ExportRequest
from service.contracts.lane import LaneAnswer, LaneRequest
from service.errors import ProblemError
from service.keys import Keys
from service.settings import Settings
from tests.service.asking import lane_length, wait_until
from tests.service.conftest import MODEL, serve
from tests.service.export_stand import ADAPTER, LARGE, SMALL, ExportStand
from tests.service.stand_in import EIFFEL, StandIn, queue_edit

MOST = 2


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("blobs")


@pytest.fixture(scope="module")
def url(valkey_url: str, blobs: Path) -> Iterator[str]:
    """URL of an API that reads exports from the folder."""
    yield from serve(Settings(model=MODEL, port=0, redis_url=valkey_url, blobs=str(blobs), max_exports=MOST))


@pytest.fixture
def api(url: str, worker: StandIn) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60) as client:
        assert client.get("/revisions").json()["revision"] == worker.ledger.head()
        yield client


@pytest.fixture
def stand(worker: StandIn, blobs: Path) -> ExportStand:
    return ExportStand(worker, blobs)


def unpacked(content: bytes) -> dict[str, bytes]:
    """The files of an archive, by their whole names."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        return {info.name: found.read() for info in tar if (found := tar.extractfile(info)) is not None}


def test_an_adapter(api: httpx.Client, worker: StandIn, stand: ExportStand) -> None:
    edit = queue_edit(worker.edits)
    worker.apply(edit.id)
    answer = api.get("/revisions/head/adapter", params={"rank": 7})
    assert answer.status_code == 200, answer.text
    headers = answer.headers
    assert headers["Content-Type"] == "application/x-tar"
    assert headers["Content-Disposition"] == 'attachment; filename="test-model-r1-adapter.tar"'
    assert headers["X-Model-Revision"] == "1"
    assert (headers["X-Adapter-Rank"], headers["X-Adapter-Error"]) == ("2", "0.0125")
    assert int(headers["Content-Length"]) == len(answer.content)
    files = unpacked(answer.content)
    assert [name.partition("/")[0] for name in files] == ["test-model-r1-adapter"] * 3
    named = {name.partition("/")[2]: content for name, content in files.items()}
    manifest = ExportManifest.model_validate_json(named.pop("manifest.json"))
    assert named == ADAPTER
    assert {name: (file.sha256, file.bytes) for name, file in manifest.files.items()} == {
        name: (hashlib.sha256(content).hexdigest(), len(content)) for name, content in ADAPTER.items()
    }
    assert (manifest.kind, manifest.model, manifest.base) == ("adapter", MODEL, "c0")
    assert (manifest.revision, manifest.checksum) == (1, "c1")
    assert manifest.fidelity is not None
    (told,) = manifest.edits
    assert (told.edit, told.revision, told.method, told.hparams) == (edit.id, 1, "rome", {"v_lr": 0.5})
    assert told.facts[0].model_dump(exclude_none=True) == EIFFEL
    assert told.summary is not None
    (request,) = worker.asked
    assert request.body == ExportRequest.model_validate({"export": "adapter", "revision": 1, "rank": 7})
    wait_until(lambda: stand.objects == [])


def test_a_checkpoint_is_made_file_by_file(api: httpx.Client, worker: StandIn, stand: ExportStand) -> None:
    answer = api.get("/revisions/r0/checkpoint")
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    assert answer.headers["ETag"] == 'W/"c0"'
    assert "X-Adapter-Rank" not in answer.headers
    files = unpacked(answer.content)
    named = {name.removeprefix("test-model-r0-checkpoint/"): content for name, content in files.items()}
    manifest = ExportManifest.model_validate_json(named.pop("manifest.json"))
    assert named == SMALL | LARGE
    assert {name: file.sha256 for name, file in manifest.files.items()} == {
        name: hashlib.sha256(content).hexdigest() for name, content in named.items()
    }
    assert (manifest.edits, manifest.fidelity) == ((), None)
    asked = [request.body for request in worker.asked]
    assert [body.file for body in asked if isinstance(body, ExportRequest)] == [None, *LARGE]
    wait_until(lambda: stand.objects == [])


@pytest.mark.usefixtures("stand")
def test_the_same_archive_has_the_same_tag(api: httpx.Client) -> None:
    first, second = (api.get("/revisions/0/adapter") for _ in range(2))
    assert first.content == second.content
    assert first.headers["ETag"] == second.headers["ETag"]
    assert first.headers["ETag"].startswith('"')


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/revisions/tomorrow/adapter", 422, "must be base, head, or a revision"),
        ("/revisions/7/adapter", 404, "no revision r7"),
        (f"/revisions/{10**14}/checkpoint", 404, "no revision"),
        ("/revisions/0/adapter?rank=0", 422, "rank"),
        ("/revisions/0/adapter?rank=70000", 422, "rank"),
        ("/revisions/0/adapter?file=x", 422, "file"),
        ("/revisions/..%2f..%2fetc/checkpoint", 404, "nothing at this path"),
        ("/revisions/-1/checkpoint", 422, "must be base, head, or a revision"),
    ],
)
def test_what_cannot_be_asked_for(
    api: httpx.Client, worker: StandIn, stand: ExportStand, path: str, status: int, words: str
) -> None:
    answer = api.get(path)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert words in answer.json()["detail"]
    assert worker.asked == []
    assert stand.objects == []


def test_a_workers_refusal_is_the_answer(api: httpx.Client, worker: StandIn) -> None:
    problem = ProblemError(409, "adapter-not-exact", "Take the checkpoint.").problem
    worker.answer = lambda request: LaneAnswer(id=request.id, problem=problem)
    answer = api.get("/revisions/0/adapter")
    assert answer.status_code == 409
    assert answer.json()["type"].endswith(":adapter-not-exact")


def test_without_a_worker(api: httpx.Client, worker: StandIn) -> None:
    worker.die()
    answer = api.get("/revisions/0/checkpoint")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


def test_files_that_the_api_cannot_reach(
    api: httpx.Client, stand: ExportStand, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stand.place = tmp_path
    answer = api.get("/revisions/0/adapter")
    assert answer.status_code == 503
    assert answer.json()["type"].endswith(":exports-unreachable")
    assert "PALIMPSEST_BLOBS" in answer.json()["detail"]
    assert "exports/" not in answer.text
    assert "exports/" in caplog.text


@pytest.mark.parametrize("lie", [{"sha256": "0" * 64}, {"bytes": 3_000_000}, {"bytes": 10}, {"name": "another"}])
def test_a_file_that_is_not_what_was_told_breaks_the_archive(
    api: httpx.Client, stand: ExportStand, lie: dict[str, object]
) -> None:
    """Its length was told before its first byte, so that nobody takes it for whole."""
    stand.lie = lie
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        api.get("/revisions/0/checkpoint")
    wait_until(lambda: stand.objects == [])
    stand.lie = {}
    assert api.get("/revisions/0/checkpoint").is_success


def test_a_worker_that_dies_on_the_way_breaks_the_archive(
    api: httpx.Client, worker: StandIn, stand: ExportStand
) -> None:
    def once(request: LaneRequest) -> LaneAnswer | None:
        if isinstance(request.body, ExportRequest) and request.body.file is None:
            return stand.answer(request)
        worker.die()
        return None

    worker.answer = once
    with pytest.raises(httpx.RemoteProtocolError):
        api.get("/revisions/0/checkpoint")
    wait_until(lambda: stand.objects == [])


def held(stand: ExportStand, release: threading.Event) -> Callable[[LaneRequest], LaneAnswer | None]:
    """A worker that makes what is small, and what is large only when it is released, for those who still wait."""

    def answer(request: LaneRequest) -> LaneAnswer | None:
        if isinstance(request.body, ExportRequest) and request.body.file is not None:
            release.wait(60)
        return None if request.id in stand.worker.gone else stand.answer(request)

    return answer


def test_a_client_that_goes_away_stops_it(
    api: httpx.Client, worker: StandIn, stand: ExportStand, release: threading.Event, redis: Redis, keys: Keys
) -> None:
    worker.answer = held(stand, release)
    with api.stream("GET", "/revisions/0/checkpoint") as answer:
        pieces = answer.iter_raw()
        next(pieces)
        wait_until(lambda: len(worker.asked) == 2)
    wait_until(lambda: worker.gone == [worker.asked[1].id])
    assert lane_length(redis, keys) == 0
    assert len(worker.asked) == 2
    wait_until(lambda: stand.objects == [])


def test_a_client_that_does_not_read_is_not_run_ahead_of(
    api: httpx.Client, worker: StandIn, stand: ExportStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second file is not made while the first, larger than what sockets hold, is not read."""
    many = {f"model-{number:05}-of-00003.safetensors": b"x" * 60_000_000 for number in (1, 2, 3)}
    monkeypatch.setattr(stand, "large", many)
    with api.stream("GET", "/revisions/0/checkpoint") as answer:
        pieces = answer.iter_raw()
        next(pieces)
        wait_until(lambda: len(worker.asked) == 2)
        received = sum(map(len, pieces))
    assert received > 170_000_000
    assert len(worker.asked) == 4
    wait_until(lambda: stand.objects == [])


def test_only_so_many_at_once(api: httpx.Client, stand: ExportStand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand, "large", {"model.safetensors": b"x" * 60_000_000})
    with api.stream("GET", "/revisions/0/checkpoint"), api.stream("GET", "/revisions/0/checkpoint") as second:
        full = api.get("/revisions/0/adapter")
        assert (full.status_code, full.headers["Retry-After"]) == (503, "5")
        assert full.json()["type"].endswith(":queue-full")
        second.read()
    wait_until(lambda: api.get("/revisions/0/adapter").is_success)
    wait_until(lambda: stand.objects == [])


def test_whoever_takes_nothing_keeps_nobody_from_exports(
    valkey_url: str, stand: ExportStand, blobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stand, "large", {"model.safetensors": b"x" * 60_000_000})
    settings = Settings(model=MODEL, port=0, redis_url=valkey_url, blobs=str(blobs), max_exports=1, request_timeout=0.5)
    with (
        contextmanager(serve)(settings) as url,
        httpx.Client(base_url=url, timeout=60) as client,
        socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=60) as deaf,
    ):
        deaf.sendall(b"GET /revisions/0/checkpoint HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert deaf.recv(12) == b"HTTP/1.1 200"
        wait_until(lambda: client.get("/revisions/0/adapter").is_success)
        wait_until(lambda: stand.objects == [])
