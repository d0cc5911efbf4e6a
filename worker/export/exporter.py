"""Makes exports between the steps of everything else, one at a time; most of the work is done by other threads."""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any

from service.contracts.exports import Exported, ExportKind, ExportRequest
from service.contracts.lane import LaneAnswer, LaneRequest
from service.errors import ProblemError
from service.origin import Origin, in_name_of
from worker.engine.device import device_error
from worker.engine.folder import Folder
from worker.engine.history import History
from worker.errors import CorruptStateError, WorkerError
from worker.export.adapter import adapter
from worker.export.checkpoint import Checkpoints
from worker.export.companions import companions
from worker.export.shards import SHARD_BYTES
from worker.export.sink import in_background, sweep
from worker.export.work import Work, done

log = logging.getLogger(__name__)

Answer = Callable[[LaneRequest, LaneAnswer | None], None]
"""Sends an answer to whoever asked; None says that nobody waits any longer."""


REMEMBERED = 100
"""Exports whose answer may still be on its way."""


class Exporter:
    """Serves those who want files. Runs on the model thread.

    folder: takes what is made, and belongs to exports alone; wake: called when there is more to do.
    """

    def __init__(
        self, history: History, folder: Folder, wake: Callable[[], None], shard_bytes: int = SHARD_BYTES
    ) -> None:
        self._history = history
        self._folder = folder
        self._wake = wake
        self._shard_bytes = shard_bytes
        self._checkpoints: Checkpoints | None = None
        self._waiting: deque[tuple[LaneRequest, Answer]] = deque()
        self._work: Work[Exported] | None = None
        self._awaited: Future[Any] | None = None
        self._made: deque[str] = deque(maxlen=REMEMBERED)

    def take_up(self, requests: Iterable[LaneRequest], answer: Answer) -> list[LaneRequest]:
        """Let exports wait for their turn; returns the requests for anything else."""
        others: list[LaneRequest] = []
        for request in requests:
            if not isinstance(request.body, ExportRequest):
                others.append(request)
            elif all(request.id != known.id for known, _ in self._waiting):
                self._waiting.append((request, answer))
        return others

    def dismiss(self, ids: Collection[str]) -> None:
        """Stop making what nobody waits for any longer: these, and those past their deadline.

        Whoever leaves while the answer is on its way does not fetch what was made.
        """
        for name in [name for name in self._made if name in ids]:
            self._made.remove(name)
            in_background(partial(self._folder.delete, name))
        now = time.time()
        for request, answer in list(self._waiting):
            if request.id in ids or request.deadline < now:
                self._end(request, answer, None)

    def step(self) -> bool:
        """One small step; returns whether there is more to do at once.

        What was begun for somebody who has left is awaited, too: a thread cannot be stopped, and they must not pile up.
        """
        if self._awaited is not None and self._awaited.done():
            self._awaited = None
        if not self._waiting or self._awaited is not None:
            return False
        request, answer = self._waiting[0]
        with in_name_of(Origin(request.request_id, by=request.by)):
            self._advance(request, answer)
        if self._awaited is not None:
            self._awaited.add_done_callback(lambda _: self._wake())
            return False
        return bool(self._waiting)

    def _advance(self, request: LaneRequest, answer: Answer) -> None:
        try:
            if self._work is None:
                self._work = self._begin(request)
            self._awaited = next(self._work)
        except StopIteration as end:
            self._made.append(request.id)
            self._log_made(request, end.value)
            self._end(request, answer, LaneAnswer(id=request.id, exported=end.value))
        except ProblemError as error:
            self._end(request, answer, LaneAnswer(id=request.id, problem=error.problem))
        except CorruptStateError as error:
            # Of an old revision, which has to be rebuilt; the head is in memory and does not depend on it.
            log.exception("a revision cannot be rebuilt")
            problem = ProblemError(500, "revision-damaged", str(error)).problem
            self._end(request, answer, LaneAnswer(id=request.id, problem=problem))
        except WorkerError:
            raise
        except Exception as error:
            if device_error(error) is not None:
                raise
            log.exception("an export failed")
            problem = ProblemError(500, "export-failed", "The export failed; the worker's log says why.").problem
            self._end(request, answer, LaneAnswer(id=request.id, problem=problem))

    def _begin(self, request: LaneRequest) -> Work[Exported]:
        body = request.body
        assert isinstance(body, ExportRequest)  # noqa: S101 - nothing else waits
        yield from done(in_background(partial(sweep, self._folder)))
        if body.export is ExportKind.ADAPTER:
            return (yield from adapter(self._history, self._folder, request.id, body.revision, body.rank))
        if self._checkpoints is None:
            small = companions(self._history.resident.loaded)
            self._checkpoints = Checkpoints(self._history, self._folder, small, self._shard_bytes)
        if body.file is None:
            return (yield from self._checkpoints.plan(request.id, body.revision))
        return (yield from self._checkpoints.one(request.id, body.revision, body.file))

    def _log_made(self, request: LaneRequest, exported: Exported) -> None:
        body = request.body
        assert isinstance(body, ExportRequest)  # noqa: S101 - nothing else waits
        names = ", ".join(file.name for file in exported.files if file.sha256 is not None)
        log.info("r%d as %s: made %s", body.revision, body.export, names)

    def _end(self, request: LaneRequest, answer: Answer, last: LaneAnswer | None) -> None:
        if self._waiting[0][0] is request:
            work, self._work = self._work, None
            if work is not None:
                work.close()
        self._waiting = deque(each for each in self._waiting if each[0] is not request)
        answer(request, last)
