"""The doorbell, as a worker hears it."""

from collections.abc import Iterator

import pytest
from redis import Redis
from rq import Queue

from service.keys import Keys, model_name
from service.queue import RUN_EDIT, RUN_EVALUATION, open_queue, reset, ring, waiting


@pytest.fixture
def queue(redis: Redis, valkey_url: str, keys: Keys) -> Iterator[Queue]:
    """The queue of the edits, over a client that does not decode."""
    assert redis.ping()
    with Redis.from_url(valkey_url) as raw:
        yield open_queue(raw, keys)


def test_a_ring_is_one_job_that_names_the_edit(queue: Queue) -> None:
    ring(queue, "a" * 16)
    job = queue.jobs[0]
    assert (job.func_name, job.args, job.timeout) == (RUN_EDIT, ["a" * 16], -1)
    assert waiting(queue) == {"a" * 16}


def test_a_ring_for_an_evaluation_names_its_own_function(queue: Queue) -> None:
    ring(queue, "a" * 16, "evaluation")
    assert (queue.jobs[0].func_name, queue.jobs[0].args) == (RUN_EVALUATION, ["a" * 16])


def test_rings_keep_their_order_and_two_do_no_harm(queue: Queue) -> None:
    for edit_id in ("b", "a", "b"):
        ring(queue, edit_id)
    assert [job.args[0] for job in queue.jobs][:2] == ["b", "a"]
    assert waiting(queue) == {"a", "b"}


def test_a_reset_queue_is_silent(queue: Queue) -> None:
    ring(queue, "a")
    reset(queue)
    assert waiting(queue) == set()
    assert queue.jobs == []


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("smollm2-135m", "smollm2-135m"),
        ("org/model", "org/model"),
        ("/models/mine/", "mine"),
        ("./mine", "mine"),
        ("~/models/mine", "mine"),
    ],
)
def test_the_name_of_a_model(model: str, name: str) -> None:
    assert model_name(model) == name
    assert Keys(model_name(model)).queue == f"edits:{name}"
