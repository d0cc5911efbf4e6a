"""Serve a model until told to stop: boot from the ledger, answer readers, and lead once the lease is free."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from redis import Redis

from service.benchmarks import Benchmarks
from service.checks import CountTokens, token_counter, unfit
from service.contracts.exports import FOLDER
from service.contracts.lane import LaneAnswer
from service.contracts.model import Ceilings, ModelCard, WorkerState
from service.edits import Edits
from service.evaluations import Evaluations
from service.jobs import in_line
from service.keys import Keys
from service.ledger import Ledger
from service.queue import FUNCTIONS, open_queue, reset, ring, waiting
from service.spans import Spans
from service.traces import Traces
from worker.benchmarking.benchmarker import Benchmarker
from worker.card import card_of, tokenizer_text
from worker.editing.hparams import shipped
from worker.editing.method import discover
from worker.editing.progress import Step, Steps
from worker.engine.blobs import BlobStore
from worker.engine.editor import Editor
from worker.engine.evaluator import Evaluator
from worker.engine.follower import Follower
from worker.engine.history import History
from worker.engine.mirror import Mirror
from worker.engine.model_thread import ModelThread
from worker.engine.readers import MOST_ROWS, Readers
from worker.engine.resident import Resident
from worker.engine.tracer import Tracer
from worker.errors import WorkerError
from worker.export.exporter import Exporter
from worker.gone import Gone
from worker.heartbeat import Board
from worker.jobs import BenchmarkJob, EditJob, EvaluationJob, Line, TraceJob
from worker.lane import Lane
from worker.lease import RETRY_SECONDS, Lease
from worker.models.loaded import LoadedModel
from worker.models.memory import free_bytes, memory
from worker.models.speed import compute_dtype
from worker.outbox import Outbox
from worker.rq_worker import EditWorker
from worker.settings import Settings
from worker.statistics.store import StatisticsStore
from worker.telemetry import Telemetry
from worker.watching import Watching

log = logging.getLogger(__name__)

READING_SHARE = 0.25
"""Of the memory that is free at the start, what keys and values of continuations may take."""


class Serving:
    """One worker's life with one loaded model, on the thread that has loaded it."""

    def __init__(
        self,
        settings: Settings,
        loaded: LoadedModel,
        thread: ModelThread,
        redis: Redis,
        raw_redis: Redis,
        board: Board,
        telemetry: Telemetry | None = None,
        spans: Spans | None = None,
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._raw_redis = raw_redis
        self._keys = Keys(loaded.name)
        self._thread = thread
        self._resident = thread.call(lambda: Resident(loaded))
        self._board = board
        self._telemetry = telemetry or Telemetry(loaded.name)
        self._spans = spans or Spans()
        self._draining = threading.Event()
        self._stop_job = threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Boot, answer readers, lead; returns when told to stop, raises the error that ended it."""
        lease = Lease(self._redis, self._keys, self._board.worker, self._settings.lease_seconds)
        try:
            self._serve(lease)
        finally:
            lease.release()
            if self._error is not None:  # whatever else has come of it since, such as the exit that a signal asks for
                raise self._error
        if not self._draining.is_set():
            raise WorkerError("The job loop ended by itself; the log above says why.")

    def _serve(self, lease: Lease) -> None:
        loaded, settings, thread = self._resident.loaded, self._settings, self._thread
        ledger = Ledger(self._redis, self._keys)
        leads = self._find_beginning(lease, ledger)
        history = History(
            self._resident,
            ledger,
            blob_store := BlobStore(blobs := settings.blobs_of(loaded.name)),
            lease.token if leads else "",
            self._board.tell,
            settings.cache_bytes,
            Mirror(blobs, self._redis, self._keys),
        )
        thread.call(history.boot)
        methods = discover()
        defaults = {name: shipped(settings.hparams_dir, name, loaded.config) for name in methods}
        ceilings = Ceilings(perplexity_ratio=settings.max_perplexity_ratio, kl=settings.max_kl, norm=settings.max_norm)
        card = card_of(self._resident, methods, defaults, ceilings)
        count_tokens = token_counter(loaded.tokenizer.backend_tokenizer)
        readers = Readers(history, card, count_tokens, self._most_rows(), self._reading_bytes(), self._telemetry)
        exporter = Exporter(history, blob_store.folder.under(FOLDER), thread.wake)
        gone, outbox = Gone(self._redis, self._keys, thread.wake), Outbox(self._redis)
        lane, moves = (
            Lane(self._redis, self._keys, stream, self._board.worker, thread.wake, outbox)
            for stream in (self._keys.lane, self._keys.moves)
        )
        follower = Follower(history, self._redis, self._keys, thread.wake, self._board.behind)
        statistics = StatisticsStore(
            loaded, self._resident.base_checksum, settings.data_dir / "statistics", settings.corpus, settings.stats_dir
        )
        dtype = thread.call(lambda: compute_dtype(loaded, settings.compute_dtype))
        editor = Editor(history, methods, defaults.get, statistics, dtype, ceilings)
        line = self._line(history, ledger, editor, card, count_tokens, lease.extend)
        self._tell_of(readers)
        if leads:  # before anybody is told that this worker is ready
            self._board.publish(card, tokenizer_text(loaded))
        lane.open()
        thread.serve(lambda: _turn(readers, exporter, follower, gone, lane, moves), self._fatal)
        with _running(thread, (outbox, gone, lane, follower), moves):
            self._board.serving(lambda: self._resident.revision, lambda: thread.step_seconds)
            log.info("ready: %s at r%d", loaded.name, self._resident.revision)
            if not leads:
                self._succeed(lease, history, thread)
                self._board.publish(card, tokenizer_text(loaded))
            moves.open()
            moves.start()
            worker = self._rq_worker(line)
            self._board.each_beat.append(worker.keep_alive)
            log.info("leading: this worker edits")
            worker.work(logging_level="WARNING")
            self._board.show(WorkerState.STOPPING, "ending the running step")

    def _line(
        self,
        history: History,
        ledger: Ledger,
        editor: Editor,
        card: ModelCard,
        count_tokens: CountTokens,
        fence: Callable[[], None],
    ) -> Line:
        """What runs the jobs of every kind."""
        redis, keys = self._redis, self._keys
        edits = Edits(redis, keys)
        evaluator, tracer = Evaluator(history, ledger, edits), Tracer(history, ledger)
        journals = self._settings.data_dir / "benchmarks" / card.name.replace("/", "--")
        fits = partial(unfit, card=card, count_tokens=count_tokens)
        benchmarker = Benchmarker(history, ledger, editor.computation, journals, fits)
        watching = Watching(self._telemetry, self._spans, [method.name for method in card.methods])
        checked, ending = (self._thread, card, count_tokens), (self._draining, self._stop_job, fence)
        reading = (*checked, ledger.resolve)
        return Line(
            (
                EditJob(edits, *checked, watching.phased(editor.run), *ending),
                EvaluationJob(Evaluations(redis, keys), *reading, watching.phased(evaluator.run), *ending),
                TraceJob(Traces(redis, keys), *reading, watching.phased(tracer.run), *ending),
                BenchmarkJob(Benchmarks(redis, keys), *reading, watching.phased(benchmarker.run), *ending),
            ),
            watching.around,
        )

    def _tell_of(self, readers: Readers) -> None:
        telemetry, loaded = self._telemetry, self._resident.loaded
        telemetry.holds(sum(parameter.nbytes for parameter in loaded.model.parameters()))
        telemetry.watch("generation_rows", "Continuations that are decoded together", lambda: readers.rows)
        telemetry.watch("step_seconds", "How long the running step has taken", lambda: self._thread.step_seconds)
        telemetry.watch_device(lambda: memory(loaded.device))

    def _most_rows(self) -> int:
        device = self._resident.loaded.device.type
        return self._settings.max_batch_rows or MOST_ROWS.get(device, MOST_ROWS["cpu"])

    def _reading_bytes(self) -> int:
        given = self._settings.reading_bytes
        return int(READING_SHARE * free_bytes(self._resident.loaded.device)) if given is None else given

    def _find_beginning(self, lease: Lease, ledger: Ledger) -> bool:
        """Wait until there is a revision to boot from, or the lease, whose holder may write r0; returns the latter."""
        while not lease.take():
            if ledger.head() is not None:
                return False
            time.sleep(RETRY_SECONDS)
        self._hold(lease)
        return True

    def _succeed(self, lease: Lease, history: History, thread: ModelThread) -> None:
        """Follow until the lease is free, then lead from the head that the last leader has left."""
        lease.acquire(lambda holder: log.info("following: %s leads", holder.partition(":")[2]))
        self._hold(lease)

        def lead() -> Steps[None]:
            yield Step("lead")
            history.lead(lease.token)
            history.follow()

        thread.submit(lead(), lambda _: None, threading.Event()).result()

    def _hold(self, lease: Lease) -> None:
        self._board.each_beat.append(lease.keep)
        self._board.leading()

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


def _turn(readers: Readers, exporter: Exporter, follower: Follower, gone: Gone, *lanes: Lane) -> bool:
    """The readers' turn on the model thread: whoever asks is answered from the head of this moment."""
    for lane in lanes:
        requests = lane.take()
        problem = follower.catch_up(asked=bool(requests))
        if problem is None:
            readers.take_up(exporter.take_up(requests, lane.answer), lane.answer)
        else:
            for request in requests:
                lane.answer(request, LaneAnswer(id=request.id, problem=problem.problem))
    readers.dismiss(gone.ids)
    exporter.dismiss(gone.ids)
    more = readers.step()
    return exporter.step() or more


@contextmanager
def _running(thread: ModelThread, beside: Sequence[Outbox | Gone | Lane | Follower], moves: Lane) -> Iterator[None]:
    """Readers are answered while this is entered, however it is left; moves are the leader's to start."""
    for each in beside:
        each.start()
    try:
        yield
    finally:
        thread.end()
        thread.join(timeout=10)
        for each in (*beside, moves):
            each.end()
        beside[0].join(timeout=2)  # the last answers
