"""An exporter on a tiny model's engine, and all that it answers."""

import secrets
import threading
from pathlib import Path
from typing import Any

from service.contracts.exports import Exported, ExportRequest
from service.contracts.lane import LaneAnswer, LaneRequest
from service.contracts.problem import Problem
from tests.worker.engine.kit import Stand
from worker.engine.folder import Folder
from worker.export.exporter import Exporter

FAR = 2e9
"""A deadline that no test reaches."""

SECONDS = 60.0


class ExportDesk:
    """heard: what was answered to each request, by its id; place: where the objects lie."""

    def __init__(self, stand: Stand, folder: Path, shard_bytes: int = 2**29) -> None:
        self.stand = stand
        self.place = folder / "exports"
        self.heard: dict[str, LaneAnswer | None] = {}
        self._woken = threading.Event()
        self.exporter = Exporter(stand.history, Folder.at(self.place), self._woken.set, shard_bytes)

    def take_up(self, deadline: float = FAR, **fields: Any) -> str:
        """Ask for an export; returns the id."""
        name = secrets.token_hex(8)
        request = LaneRequest(
            id=name,
            request_id=f"http-{name}",
            body=ExportRequest.model_validate(fields),
            deadline=deadline,
            answers="answers",
        )
        assert self.exporter.take_up([request], self._hear) == []
        return request.id

    def step(self) -> None:
        """One step, after what it has to wait for, as the model thread takes it: that sleeps until it is woken."""
        if not self.exporter.step() and self.exporter._waiting:
            assert self._woken.wait(SECONDS)
            self._woken.clear()

    def finish(self) -> None:
        """Steps until nothing is left."""
        while self.exporter._waiting:
            self.step()

    def made(self, **fields: Any) -> tuple[Exported, dict[str, bytes]]:
        """What is told of an export, and the files that were made."""
        name = self.take_up(**fields)
        self.finish()
        answer = self.heard[name]
        assert answer is not None
        assert answer.exported is not None, answer
        return answer.exported, self.files(name, answer.exported)

    def refused(self, **fields: Any) -> Problem:
        """Why an export is not made; nothing of it is left."""
        name = self.take_up(**fields)
        self.finish()
        answer = self.heard[name]
        assert answer is not None
        assert answer.problem is not None, answer
        assert not (self.place / name).exists()
        return answer.problem

    def files(self, name: str, exported: Exported) -> dict[str, bytes]:
        """The files in an object."""
        content = (self.place / name).read_bytes()
        found: dict[str, bytes] = {}
        for file in exported.files:
            if file.sha256 is not None:
                found[file.name], content = content[: file.bytes], content[file.bytes :]
        assert content == b""
        return found

    def checkpoint(self, revision: int) -> dict[str, bytes]:
        """All files of a checkpoint, asked for one by one."""
        exported, files = self.made(export="checkpoint", revision=revision)
        for file in exported.files:
            if file.sha256 is None:
                one, content = self.made(export="checkpoint", revision=revision, file=file.name)
                assert [each.name for each in one.files] == [file.name]
                assert len(content[file.name]) == file.bytes == one.files[0].bytes
                files |= content
        assert list(files) == [file.name for file in exported.files]
        return files

    def _hear(self, request: LaneRequest, answer: LaneAnswer | None) -> None:
        assert request.id not in self.heard, "answered twice"
        self.heard[request.id] = answer


def unpacked(files: dict[str, bytes], folder: Path) -> Path:
    """The folder, with the files in it."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder
