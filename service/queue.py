"""The doorbell: tells the worker through RQ that a job is waiting. The job itself lies in Redis already."""

from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

from service.keys import Keys

RUN_EDIT = "worker.jobs.run_edit"

RUN_EVALUATION = "worker.jobs.run_evaluation"

RUN_TRACE = "worker.jobs.run_trace"

RUN_BENCHMARK = "worker.jobs.run_benchmark"

FUNCTIONS = {"edit": RUN_EDIT, "evaluation": RUN_EVALUATION, "trace": RUN_TRACE, "benchmark": RUN_BENCHMARK}
"""The functions that RQ may ask a worker to run, by what they run."""

RESULT_SECONDS = 3600
"""How long RQ keeps its own record of a finished or failed job; the document stays for ever."""


def open_queue(redis: Redis, keys: Keys) -> Queue:
    """The RQ queue of a model. RQ needs raw bytes: `redis` must not decode responses."""
    return Queue(keys.queue, connection=redis, serializer=JSONSerializer)


def ring(queue: Queue, job_id: str, noun: str = "edit") -> None:
    """Tell the worker about a job; to ring twice does no harm."""
    # With a pipeline of our own, because RQ waits for Redis twice without.
    with queue.connection.pipeline() as pipeline:
        queue.enqueue_call(
            FUNCTIONS[noun],
            args=(job_id,),
            job_id=job_id,
            timeout=-1,
            result_ttl=RESULT_SECONDS,
            failure_ttl=RESULT_SECONDS,
            description=f"{noun} {job_id}",
            pipeline=pipeline,
        )
        pipeline.execute()


def waiting(queue: Queue) -> set[str]:
    """The jobs that a worker will be told about."""
    return set(queue.get_job_ids())


def reset(queue: Queue) -> None:
    """Forget what RQ knows of waiting and started jobs; only for a worker that holds the lease, at its start."""
    queue.empty()
    queue.connection.delete(queue.started_job_registry.key, queue.intermediate_queue_key)
