"""A checkpoint of a revision: what its files will be, and one of them at a time, tensor by tensor."""

from collections.abc import Mapping

from service.contracts.exports import Exported, ExportedFile
from service.errors import not_found
from worker.engine.folder import Folder
from worker.engine.history import History
from worker.export.shards import CHUNK_BYTES, INDEX, SHARD_BYTES, Shard, index_of, shards_of
from worker.export.work import Work, put


class Checkpoints:
    """Makes checkpoints of one model. small: their files beside the weights; shard_bytes: bounds those with weights."""

    def __init__(
        self,
        history: History,
        folder: Folder,
        small: Mapping[str, bytes],
        shard_bytes: int = SHARD_BYTES,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        self._history = history
        self._folder = folder
        self._small = small
        self._shard_bytes = shard_bytes
        self._chunk_bytes = chunk_bytes

    def plan(self, name: str, revision: int) -> Work[Exported]:
        """All files of a checkpoint; those that are small are written, as the object `name`."""
        shards = self._shards(revision)
        small = {**self._small, INDEX: index_of(shards)} if len(shards) > 1 else self._small
        written = yield from put(self._folder, name, ((file, (content,)) for file, content in small.items()))
        return Exported(files=(*written, *(ExportedFile(name=shard.name, bytes=shard.bytes) for shard in shards)))

    def one(self, name: str, revision: int, file: str) -> Work[Exported]:
        """One of the files with weights, written as the object `name`; 404 if there is none of that name."""
        shard = next((shard for shard in self._shards(revision) if shard.name == file), None)
        if shard is None:
            raise not_found(f"file {file} of a checkpoint", "The worker that told of it may be of another version.")
        written = yield from put(self._folder, name, [(file, shard.chunks(self._chunk_bytes))])
        return Exported(files=written)

    def _shards(self, revision: int) -> tuple[Shard, ...]:
        """Whatever is installed meanwhile: they hold on to the tensors of this revision."""
        resident = self._history.resident
        return shards_of(resident.whole(self._history.weights_at(revision)), self._shard_bytes)
