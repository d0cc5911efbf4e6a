"""Start the worker: find Redis, load the model, serve it; `python -m worker`."""

import faulthandler
import logging
import os
import signal
import time
from collections.abc import Callable
from types import FrameType

from pydantic import ValidationError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from service import logs
from service.contracts.model import WorkerState
from service.keys import Keys, model_name
from service.spans import Spans, sending
from worker.errors import WorkerError
from worker.heartbeat import Board, Heartbeat
from worker.settings import Settings
from worker.telemetry import Telemetry

log = logging.getLogger("worker")

REDIS_SECONDS = 30
"""How long a worker that starts waits for Redis."""

PROBE_SECONDS = 2.0
"""How long Prometheus waits, if it asks whether Redis answers."""


def main() -> int:
    """Serve until told to stop; returns the exit code."""
    name = os.environ.get("PALIMPSEST_NAME", "worker")  # not a setting: settings that are wrong are told under it
    logs.set_up(name, os.environ.get("PALIMPSEST_LOG_FORMAT", "text"), logging.INFO)
    faulthandler.register(signal.SIGUSR1)  # kill -USR1 shows where every thread is
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    try:
        _serve(Settings())
    except ValidationError as error:
        log.error("%s", "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()))  # noqa: TRY400
        return 2
    except SystemExit:  # told to stop
        return 0
    except (WorkerError, RedisError) as error:
        log.error("%s", error)  # noqa: TRY400 - the sentence is for a person; a traceback would hide it
        return getattr(error, "exit_code", 1)
    return 0


def _end(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a signal handler
    raise SystemExit(0)


def _serve(settings: Settings) -> None:
    if settings.redis_url is None:
        raise WorkerError("REDIS_URL is not set. Set it, or run `palimpsest up`, which brings its own Redis.")
    redis = Redis.from_url(settings.redis_url, decode_responses=True)
    raw_redis = Redis.from_url(settings.redis_url)
    telemetry = Telemetry(model_name(settings.model))
    telemetry.watch("redis_up", "1 if Redis answers this worker, else 0", _probe(settings.redis_url))
    if settings.metrics_port is not None:
        telemetry.serve(settings.metrics_port, settings.metrics_host)
    _wait_for(redis)
    board = Board(redis, Keys(model_name(settings.model)), settings.lease_seconds, settings.stalled_seconds)
    board.show(WorkerState.STARTING, "loading the model")
    seconds = settings.lease_seconds
    heartbeat = Heartbeat(board.beat, seconds / 4, seconds, lambda: os.kill(os.getpid(), signal.SIGTERM))
    heartbeat.start()
    ended_by: WorkerError | None = None
    try:
        with sending("worker") as spans:
            _load_and_serve(settings, redis, raw_redis, board, telemetry, spans)
    except WorkerError as error:
        ended_by = error
        raise
    finally:
        heartbeat.end()
        board.take_down()
        if ended_by is None:  # else a heart that fails on the way out is not why
            _raise(heartbeat.failure)


def _raise(failure: BaseException | None) -> None:
    if isinstance(failure, WorkerError):
        raise failure
    if failure is not None:
        raise WorkerError(f"The heartbeat ended: {failure}") from failure


def _load_and_serve(
    settings: Settings, redis: Redis, raw_redis: Redis, board: Board, telemetry: Telemetry, spans: Spans
) -> None:
    begin = time.monotonic()
    # torch takes seconds to import; by now Redis is there, and says that a worker is starting
    from transformers.utils import logging as transformers_logging  # noqa: PLC0415

    from worker.engine.device import device_error  # noqa: PLC0415
    from worker.engine.model_thread import ModelThread  # noqa: PLC0415
    from worker.models.loading import load  # noqa: PLC0415
    from worker.models.memory import map_large  # noqa: PLC0415
    from worker.serving import Serving  # noqa: PLC0415

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    map_large()
    thread = ModelThread()
    thread.start()
    try:
        loaded = thread.call(lambda: load(settings.model, settings.dtype, settings.device, settings.data_dir))
        log.info("%s loaded on %s in %.1f s", loaded.name, loaded.device, time.monotonic() - begin)
        Serving(settings, loaded, thread, redis, raw_redis, board, telemetry, spans).run()
    except RuntimeError as error:
        if (fatal := device_error(error)) is not None:
            raise fatal from error
        raise
    finally:
        thread.end()


def _probe(redis_url: str) -> Callable[[], float]:
    """Asks Redis whether it is there, on a connection of its own, which never waits for long."""
    times = {"socket_timeout": PROBE_SECONDS, "socket_connect_timeout": PROBE_SECONDS}
    redis = Redis.from_url(redis_url, retry=Retry(NoBackoff(), 0), **times)

    def answers() -> float:
        try:
            return float(redis.ping())
        except RedisError:
            return 0.0

    return answers


def _wait_for(redis: Redis) -> None:
    deadline = time.monotonic() + REDIS_SECONDS
    while True:
        try:
            redis.ping()
        except RedisError as error:
            if time.monotonic() > deadline:
                raise WorkerError(f"Redis does not answer at REDIS_URL: {error}") from error
            time.sleep(0.5)
        else:
            return


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # at once: the interpreter would tidy up under a model thread that is still loading, and call a lost device again
    os._exit(code)
