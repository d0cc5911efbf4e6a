"""Exports take turns, leave nothing behind when nobody wants them, and fail alone."""

import errno
import os
import time
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from service.contracts.lane import LaneRequest
from service.contracts.revisions import RollbackRequest
from service.origin import ORIGIN, Origin
from tests.worker.engine.kit import live_checksum, noting_requests, overridden, random_delta
from tests.worker.export.desk import FAR, SECONDS, ExportDesk
from worker.engine.folder import Folder
from worker.engine.history import History
from worker.errors import LeaseLostError
from worker.export import exporter as exporting
from worker.export.checkpoint import Checkpoints
from worker.export.shards import CHUNK_BYTES
from worker.export.sink import OLD_SECONDS, Sink

OpenDesk = Callable[..., ExportDesk]

FILE: dict[str, Any] = {"export": "checkpoint", "revision": 0, "file": "model.safetensors"}


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_not_an_export_is_handed_on(open_desk: OpenDesk) -> None:
    desk = open_desk()
    move = LaneRequest(id="move", body=RollbackRequest(to=0), deadline=FAR, answers="answers")
    assert desk.exporter.take_up([move], lambda *_: None) == [move]
    assert not desk.exporter.step()


def test_exports_are_made_one_after_the_other(open_desk: OpenDesk) -> None:
    desk = open_desk()
    desk.stand.commit(random_delta(desk.stand.loaded))
    names = [desk.take_up(export=kind, revision=1) for kind in ("adapter", "checkpoint", "adapter")]
    desk.finish()
    assert list(desk.heard) == names
    assert sorted(path.name for path in desk.place.iterdir()) == sorted(names)


def test_an_export_leaves_the_model_as_it_was(open_desk: OpenDesk) -> None:
    desk = open_desk("gpt2")
    desk.stand.commit(random_delta(desk.stand.loaded))
    desk.stand.commit(random_delta(desk.stand.loaded, seed=1))
    before = desk.stand.state()
    desk.made(export="adapter", revision=1)
    desk.checkpoint(1)
    assert desk.stand.state() == before
    assert live_checksum(desk.stand.loaded) == desk.stand.ledger.entries()[2].checksum
    assert overridden(desk.stand.loaded) == []


def test_a_request_that_comes_twice_is_answered_once(open_desk: OpenDesk) -> None:
    desk = open_desk()
    name = desk.take_up(**FILE)
    request = desk.exporter._waiting[0][0]
    desk.exporter.take_up([request], desk._hear)
    desk.finish()
    assert list(desk.heard) == [name]


@pytest.mark.parametrize("why", ["gone", "late"])
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4, 6, 9])
def test_what_nobody_waits_for_leaves_nothing_behind(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch, why: str, steps: int
) -> None:
    desk = open_desk()
    monkeypatch.setattr(exporting, "Checkpoints", small_chunks)
    first, second = desk.take_up(**FILE), desk.take_up(**FILE)
    for _ in range(steps):
        desk.step()
    assert desk.heard == {}
    awaited = desk.exporter._awaited
    if why == "late":
        monkeypatch.setattr(time, "time", lambda: FAR + 1)
    desk.exporter.dismiss({first, second, "another"} if why == "gone" else ())
    assert desk.heard == {first: None, second: None}
    assert not desk.exporter.step()
    if awaited is not None:
        wait([awaited], SECONDS)
    until(lambda: not desk.place.exists() or list(desk.place.iterdir()) == [])
    monkeypatch.undo()
    assert desk.made(**FILE)[0].files[0].name == "model.safetensors"


def test_who_leaves_while_the_answer_is_on_its_way_leaves_no_file(open_desk: OpenDesk) -> None:
    desk = open_desk()
    first, second = desk.take_up(**FILE), desk.take_up(**FILE)
    desk.finish()
    for _ in range(3):  # the names are repeated at every turn
        desk.exporter.dismiss({first, "another"})
    until(lambda: [path.name for path in desk.place.iterdir()] == [second])
    assert desk.heard.keys() == {first, second}


def small_chunks(history: History, folder: Folder, small: dict[str, bytes], shard_bytes: int) -> Checkpoints:
    """Checkpoints that take many steps."""
    return Checkpoints(history, folder, small, shard_bytes, 64)


def test_no_step_takes_more_than_a_chunk_from_the_model(open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """So readers wait for no more than one; and the writer is not given more than it has written."""
    desk = open_desk()
    monkeypatch.setattr(exporting, "Checkpoints", small_chunks)
    seen: list[int] = []
    write = Sink.write

    def counted(self: Sink, chunk: bytes) -> None:
        seen.append(len(chunk))
        write(self, chunk)

    monkeypatch.setattr(Sink, "write", counted)
    desk.made(**FILE)
    assert max(seen[1:]) <= 64 < CHUNK_BYTES
    assert len(seen) > 100


@pytest.mark.parametrize(
    "fields", [FILE, {"export": "checkpoint", "revision": 0}, {"export": "adapter", "revision": 1}]
)
def test_a_full_disk_is_told(open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]) -> None:
    desk = open_desk()
    desk.stand.commit(random_delta(desk.stand.loaded))
    create = Folder.create

    class Full:
        def write(self, _: bytes) -> NoReturn:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            pass

    def full(self: Folder, name: str) -> Any:
        create(self, name).close()
        return Full()

    monkeypatch.setattr(Folder, "create", full)
    name = desk.take_up(**fields)
    desk.finish()
    answer = desk.heard[name]
    assert answer is not None
    assert answer.problem is not None
    assert answer.problem.type.endswith(":storage-full")
    until(lambda: list(desk.place.iterdir()) == [])
    monkeypatch.undo()
    desk.made(**fields)


def test_a_file_that_there_is_none_of(open_desk: OpenDesk) -> None:
    problem = open_desk().refused(export="checkpoint", revision=0, file="model-00001-of-00009.safetensors")
    assert problem.status == 404


@pytest.mark.parametrize("export", ["adapter", "checkpoint"])
def test_a_damaged_blob_is_told_and_others_are_served(
    open_desk: OpenDesk, export: str, caplog: pytest.LogCaptureFixture
) -> None:
    named = noting_requests(caplog)
    desk = open_desk()
    first = desk.stand.commit(random_delta(desk.stand.loaded))
    desk.stand.history.rollback(0)
    second = desk.stand.commit(random_delta(desk.stand.loaded, seed=1))
    desk.stand.history.forget()
    desk.stand.history._deltas.clear()
    (desk.stand.blobs_folder / f"{first.blob}.safetensors").unlink()
    problem = desk.refused(export=export, revision=1)
    assert (problem.status, problem.type) == (500, "urn:palimpsest:problem:revision-damaged")
    assert str(first.blob) in problem.detail
    assert named == [f"http-{name}" for name in desk.heard], "the log's line does not name the request"
    assert ORIGIN.get() == Origin(), "what comes after it would be told in its name"
    desk.made(export=export, revision=second.revision)


def test_a_defect_fails_one_export_alone(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    desk = open_desk()

    def defect(_: Any) -> NoReturn:
        raise RuntimeError("an unheard-of dtype")

    with monkeypatch.context() as patched:
        patched.setattr(exporting, "companions", defect)
        problem = desk.refused(export="checkpoint", revision=0)
    assert (problem.status, problem.type) == (500, "urn:palimpsest:problem:export-failed")
    assert "unheard-of" not in problem.detail
    assert "unheard-of" in caplog.text
    desk.made(export="checkpoint", revision=0)


@pytest.mark.parametrize(
    "error", [LeaseLostError("lost"), torch.AcceleratorError("CUDA error: an illegal address", 700)]
)
def test_what_ends_the_worker_ends_it(open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    desk = open_desk()

    def fatal(*_: Any) -> NoReturn:
        raise error

    monkeypatch.setattr(exporting, "companions", fatal)
    desk.take_up(export="checkpoint", revision=0)
    with pytest.raises(type(error)):
        desk.finish()


def test_what_others_have_left_is_deleted_when_it_is_old(open_desk: OpenDesk) -> None:
    desk = open_desk()
    desk.place.mkdir()
    for name, age in (("0" * 16, OLD_SECONDS + 60), ("1" * 16, OLD_SECONDS - 600)):
        (desk.place / name).write_bytes(b"left behind")
        os.utime(desk.place / name, times=(time.time() - age,) * 2)
    desk.made(**FILE)
    assert not (desk.place / ("0" * 16)).exists()
    assert (desk.place / ("1" * 16)).exists()


def test_storage_elsewhere(open_desk: OpenDesk, tmp_path: Path) -> None:
    """What fsspec has of local folders and of others differs; here all goes through a URL."""
    import fsspec

    desk = open_desk()
    desk.exporter._folder = Folder.at("memory://bucket/exports")
    name = desk.take_up(**FILE)
    desk.finish()
    answer = desk.heard[name]
    assert answer is not None
    assert answer.exported is not None
    (file,) = answer.exported.files
    assert len(fsspec.filesystem("memory").cat_file(f"/bucket/exports/{name}")) == file.bytes
    assert list(tmp_path.glob("exports/*")) == []
