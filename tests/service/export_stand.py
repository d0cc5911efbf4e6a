"""Lets the worker's stand-in make exports: files with made-up contents, in the storage of an API's own."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from service.contracts.exports import Exported, ExportedFile, ExportKind, ExportRequest, Fidelity
from service.contracts.lane import LaneAnswer, LaneRequest
from tests.service.stand_in import StandIn

ADAPTER = {"adapter_config.json": b'{"r": 2}', "adapter_model.safetensors": b"factors" * 100}
SMALL = {"config.json": b"{}", "tokenizer.json": b"t" * 511}
LARGE = {"model-00001-of-00002.safetensors": b"\0first" * 400_000, "model-00002-of-00002.safetensors": b""}
FIDELITY = Fidelity(rank=2, error=0.0125, rounding=0.5, layers={})


class ExportStand:
    """place: where the objects go; lie: changes what is told of a file, whatever was written; large: a checkpoint's."""

    def __init__(self, worker: StandIn, blobs: Path, large: Mapping[str, bytes] = LARGE) -> None:
        self.worker = worker
        self.large = large
        self.place = blobs / worker.keys.model / "exports"
        self.place.mkdir(parents=True, exist_ok=True)
        self.lie: dict[str, object] = {}
        worker.answer = self.answer

    @property
    def objects(self) -> list[str]:
        return [path.name for path in self.place.iterdir()]

    def answer(self, request: LaneRequest) -> LaneAnswer:
        body = request.body
        assert isinstance(body, ExportRequest)
        made = ADAPTER if body.export is ExportKind.ADAPTER else SMALL
        if body.file is not None:
            made = {body.file: self.large[body.file]}
        (self.place / request.id).write_bytes(b"".join(made.values()))
        files = [
            ExportedFile(name=name, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
            for name, content in made.items()
        ]
        if body.export is ExportKind.CHECKPOINT and body.file is None:
            files += [ExportedFile(name=name, bytes=len(content)) for name, content in self.large.items()]
        else:
            files[-1] = files[-1].model_copy(update=self.lie)
        fidelity = FIDELITY if body.export is ExportKind.ADAPTER else None
        return LaneAnswer(id=request.id, exported=Exported(files=tuple(files), fidelity=fidelity))
