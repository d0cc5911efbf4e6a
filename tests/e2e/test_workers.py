"""Workers as processes, one at a time: none, one, the next; stopped, failing; and what a client sees of it."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.contracts.edits import EditStatus
from service.contracts.revisions import RevisionKind
from service.errors import ProblemError
from tests.conftest import _free_port
from tests.e2e.kit import SLOW, Place, open_place, until
from worker.errors import DeviceError


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with open_place(tmp_path_factory.mktemp("workers"), _free_port) as opened:
        yield opened


def test_without_a_worker_edits_wait_and_readers_are_told(place: Place) -> None:
    with pytest.raises(ProblemError, match="No worker") as raised:
        place.client.ready()
    assert raised.value.problem.status == 503
    answer = place.http.get("/generate", params={"prompt": "The"})
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    edit = place.submit()
    assert edit.status is EditStatus.QUEUED
    assert "worker" in str(edit.notice)
    cancelled = place.client.edits.cancel(place.submit().id)
    assert cancelled.status is EditStatus.CANCELLED
    place.until_ready(place.start_worker())
    assert place.ended(edit.id).status is EditStatus.APPLIED
    assert place.client.edits.get(cancelled.id).status is EditStatus.CANCELLED


def test_the_main_job(place: Place) -> None:
    """Edit, watch, compare on both sides, roll back: with the client, as the README tells."""
    place.hire()
    base = place.client.rollback(0)
    fact = {
        "hparams": {"v_num_grad_steps": 200, "v_lr": 0.05, "context_templates": [""]},
        "paraphrases": ["The sport of Lionel Messi is"],
        "neighborhood": ["Michael Jordan plays"],
    }
    states = list(place.client.edits.events(place.submit(**fact).id))
    assert states[-1].status is EditStatus.APPLIED
    assert any(state.progress is not None and state.progress.phase == "value" for state in states)
    revision, outcome = states[-1].revision, states[-1].outcome
    assert revision == base.revision + 1
    assert outcome is not None
    assert outcome.metrics is not None
    assert outcome.metrics.after.rewrite.target_new.probability > outcome.metrics.before.rewrite.target_new.probability
    compared = place.compare()
    assert (compared.before.revision, compared.after.revision) == (0, revision)
    (shown,) = outcome.generations
    assert shown.before.startswith(compared.before.text)
    assert shown.after.startswith(compared.after.text)
    assert compared.before.tokens != compared.after.tokens
    assert place.compare(after=f"r{revision}").after == compared.after
    assert place.compare(before=f"r{base.revision}").before.tokens == compared.before.tokens
    back = place.client.rollback(0)
    assert (back.kind, back.active) == (RevisionKind.ROLLBACK, ())
    checksums = place.checksums()
    assert checksums[revision] != checksums[0] == back.checksum == place.client.model().checksum
    assert place.compare().after.tokens == compared.before.tokens
    assert place.compare(after=f"r{revision}").after.tokens == compared.after.tokens
    assert place.client.edits.get(states[-1].id).status is EditStatus.REVERTED


def test_readers_are_answered_while_an_edit_runs(place: Place) -> None:
    place.hire()
    expected = place.compare()
    edit = place.submit(hparams=SLOW)
    place.at_value_step(edit.id)
    for _ in range(20):
        assert place.compare() == expected
    assert place.client.edits.get(edit.id).status is EditStatus.RUNNING
    place.client.edits.cancel(edit.id)
    assert place.ended(edit.id).status is EditStatus.CANCELLED


def test_a_stopped_worker_hands_its_edit_to_the_next_one(place: Place) -> None:
    worker = place.hire()
    edit = place.submit(hparams=SLOW)
    place.at_value_step(edit.id)
    begin = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0, worker.said
    assert time.monotonic() - begin < 10
    handed_back = place.client.edits.get(edit.id)
    assert (handed_back.status, handed_back.attempts, handed_back.progress) == (EditStatus.QUEUED, 0, None)
    assert place.redis.get(place.keys.lease) is None
    assert place.client.model().workers == ()
    place.hire()
    ended = place.ended(edit.id)
    assert (ended.status, ended.attempts) == (EditStatus.APPLIED, 1)


def test_an_edit_whose_job_is_lost_is_rung_again(place: Place) -> None:
    """RQ's own records are worth nothing: an accepted edit is done though they are gone."""
    place.hire().kill()
    until(lambda: place.redis.get(place.keys.lease) is None)
    edits = [place.submit() for _ in range(2)]
    for key in place.redis.keys("rq:*"):
        place.redis.delete(key)
    place.hire()
    revisions = [place.ended(edit.id).revision for edit in edits]
    assert revisions == [len(place.checksums()) - 2, len(place.checksums()) - 1]


POISONED = """
import runpy
import torch
from worker.editing.progress import Step
from worker.engine.editor import Editor

def run(*_):
    yield Step("value", 1, 2)
    raise torch.AcceleratorError("CUDA error: device-side assert triggered")

Editor.run = run
runpy.run_module("worker", run_name="__main__")
"""
"""A worker whose GPU fails in the middle of every edit."""


def test_a_worker_whose_gpu_fails_ends_and_a_new_one_does_the_edit(place: Place) -> None:
    for worker in place.running:
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0, worker.said
    poisoned = place.start_worker(POISONED)
    place.until_ready(poisoned)
    before = place.checksums()
    edit = place.submit()
    assert poisoned.ended() == DeviceError.exit_code, poisoned.said
    assert "must be started again: CUDA error: device-side assert triggered" in poisoned.said
    assert place.client.edits.get(edit.id).status is EditStatus.RUNNING
    assert place.redis.get(place.keys.lease) is None
    assert place.client.model().workers == ()
    place.hire()
    ended = place.ended(edit.id)
    assert (ended.status, ended.attempts, ended.revision) == (EditStatus.APPLIED, 2, len(before))


def test_a_state_that_is_not_the_ledgers_is_not_served(place: Place) -> None:
    """A flipped bit in a blob, and the same model in another dtype: the worker says so and ends."""
    worker = place.hire()
    assert place.ended(place.submit().id).status is EditStatus.APPLIED
    newest = place.client.revisions.page(limit=1).revisions[0]
    before = place.checksums()
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    other = place.start_worker(dtype="bfloat16")
    assert other.ended() == 4, other.said
    assert "other base weights or another dtype" in other.said
    blob = place.blobs / f"{newest.blob}.safetensors"
    _flip(blob)
    damaged = place.start_worker()
    assert damaged.ended() == 5, damaged.said
    assert str(newest.blob) in damaged.said
    assert 'palimpsest_checksum_failures_total{model="tiny-llama"} 1.0' in place.http.get("/metrics").text
    assert "Traceback" not in other.said + damaged.said
    assert place.ready_pid() is None
    assert place.checksums() == before
    _flip(blob)
    place.hire()
    assert place.checksums() == before
    assert place.client.model().checksum == before[-1]


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
