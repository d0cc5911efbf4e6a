"""Serve a model until told to stop: boot from the ledger, then edits, readers and a heartbeat."""

import logging
import os
import signal
import threading

from redis import Redis

from service.checks import token_counter
from service.contracts.model import Ceilings, WorkerState
from service.edits import Edits
from service.evaluations import Evaluations
from service.jobs import in_line
from service.keys import Keys
from service.ledger import Ledger
from service.queue import FUNCTIONS, open_queue, reset, ring, waiting
from worker.card import card_of, tokenizer_text
from worker.editing.hparams import shipped
from worker.editing.method import discover
from worker.engine.blobs import BlobStore
from worker.engine.editor import Editor
from worker.engine.evaluator import Evaluator
from worker.engine.history import History
from worker.engine.model_thread import ModelThread
from worker.engine.readers import Readers
from worker.engine.resident import Resident
from worker.errors import WorkerError
from worker.heartbeat import Board
from worker.jobs import EditJob, EvaluationJob, Line
from worker.lane import Lane
from worker.lease import Lease
from worker.models.loaded import LoadedModel
from worker.models.speed import compute_dtype
from worker.rq_worker import EditWorker
from worker.settings import Settings
from worker.statistics.store import StatisticsStore

log = logging.getLogger(__name__)


class Serving:
    """One worker's life with one loaded model."""

    def __init__(self, settings: Settings, loaded: LoadedModel, redis: Redis, raw_redis: Redis, board: Board) -> None:
        self._settings = settings
        self._redis = redis
        self._raw_redis = raw_redis
        self._keys = Keys(loaded.name)
        self._resident = Resident(loaded)
        self._board = board
        self._draining = threading.Event()
        self._stop_job = threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Wait for the lease, boot, serve; returns when told to stop, raises the error that ended it."""
        lease = Lease(self._redis, self._keys, self._board.worker, self._settings.lease_seconds)
        try:
            lease.acquire(lambda holder: log.info("standing by: %s serves this model", holder))
            self._board.each_beat.append(lease.extend)
            self._serve(lease)
        finally:
            lease.release()
            if self._error is not None:  # whatever else has come of it since, such as the exit that a signal asks for
                raise self._error
        if not self._draining.is_set():
            raise WorkerError("The job loop ended by itself; the log above says why.")

    def _serve(self, lease: Lease) -> None:
        loaded, settings = self._resident.loaded, self._settings
        ledger = Ledger(self._redis, self._keys)
        history = History(
            self._resident,
            ledger,
            BlobStore(settings.blobs_of(loaded.name)),
            lease.token,
            self._board.tell,
            settings.cache_bytes,
        )
        history.boot()
        methods = discover()
        defaults = {name: shipped(settings.hparams_dir, name, loaded.config) for name in methods}
        ceilings = Ceilings(perplexity_ratio=settings.max_perplexity_ratio, kl=settings.max_kl, norm=settings.max_norm)
        card = card_of(self._resident, methods, defaults, ceilings)
        count_tokens = token_counter(loaded.tokenizer.backend_tokenizer)
        self._board.publish(card, tokenizer_text(loaded))
        thread = ModelThread(lambda: readers.serve(lane.take(), lane.answer), self._fatal)
        lane = Lane(self._redis, self._keys, self._board.worker, thread.wake)
        readers = Readers(history, card, count_tokens)
        statistics = StatisticsStore(
            loaded, self._resident.base_checksum, settings.data_dir / "statistics", settings.corpus, settings.stats_dir
        )
        dtype = compute_dtype(loaded, settings.compute_dtype)
        editor = Editor(history, methods, defaults.get, statistics, dtype, ceilings)
        edits = Edits(self._redis, self._keys)
        evaluator, evaluations = Evaluator(history, ledger, edits), Evaluations(self._redis, self._keys)
        checked, ending = (thread, card, count_tokens), (self._draining, self._stop_job, lease.extend)
        line = Line(
            (
                EditJob(edits, *checked, editor.run, *ending),
                EvaluationJob(evaluations, *checked, ledger.resolve, evaluator.run, *ending),
            )
        )
        worker = self._rq_worker(line)
        self._board.each_beat.append(worker.keep_alive)
        lane.open()
        thread.start()
        lane.start()
        self._board.serving(lambda: self._resident.revision)
        log.info("ready: %s at r%d", loaded.name, self._resident.revision)
        worker.work(logging_level="WARNING")
        self._board.show(WorkerState.STOPPING, "ending the running step")
        lane.end()
        thread.end()
        thread.join(timeout=10)

    def _rq_worker(self, line: Line) -> EditWorker:
        queue = open_queue(self._raw_redis, self._keys)
        reset(queue)

        def reconcile() -> None:
            known = waiting(queue)
            for noun, job_id in in_line(line.jobs):
                if job_id not in known:
                    ring(queue, job_id, noun)

        functions = dict.fromkeys(FUNCTIONS.values(), line)
        return EditWorker(
            queue, self._raw_redis, self._board.worker, functions, reconcile, self._draining, self._stop_job
        )

    def _fatal(self, error: BaseException) -> None:
        """End the process in good order; nothing is committed after this."""
        log.error("the worker must end: %s", error)
        self._error = error if isinstance(error, WorkerError) else WorkerError(f"{type(error).__name__}: {error}")
        os.kill(os.getpid(), signal.SIGTERM)
