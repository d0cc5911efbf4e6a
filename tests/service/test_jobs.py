"""The documents of jobs of all kinds against a plain model of them: a status for each, and the order of arrival."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from redis import Redis

from service.benchmarks import Benchmarks
from service.contracts.benchmarks import BenchmarkRequest
from service.contracts.edits import AnyEditRequest, BatchRequest, EditRequest
from service.contracts.evaluations import EvaluationRequest
from service.contracts.jobs import Progress
from service.contracts.traces import TraceRequest
from service.edits import Edits
from service.errors import ProblemError, invalid
from service.evaluations import Evaluations
from service.jobs import Jobs, in_line
from service.keys import Keys
from service.origin import ORIGIN, Origin
from service.traces import Traces
from tests.service.stand_in import batch_json

FEW = settings(max_examples=25, stateful_step_count=25, deadline=None, database=None)
PENDING = ("queued", "running")

AnyJobs = Jobs[Any, Any]
Ask = Callable[[int], Any]

KINDS: dict[str, tuple[Callable[[Redis, Keys], AnyJobs], Ask]] = {
    "edit": (Edits, lambda facts: _edit_of(batch_json(facts)["facts"])),
    "evaluation": (Evaluations, lambda facts: EvaluationRequest.model_validate(batch_json(facts))),
    "trace": (Traces, lambda facts: TraceRequest(prompt="Rome is in", subject="Rome", seed=facts)),
    "benchmark": (Benchmarks, lambda facts: BenchmarkRequest.model_validate({"methods": ["rome"], "n": facts})),
}
"""Of each kind its documents, and what asks for a job of so many facts."""


def _edit_of(facts: list[dict[str, Any]]) -> AnyEditRequest:
    one = len(facts) == 1
    return EditRequest.model_validate(facts[0]) if one else BatchRequest.model_validate({"facts": facts})


@pytest.fixture(params=list(KINDS))
def kind(redis: Redis, keys: Keys, request: pytest.FixtureRequest) -> tuple[AnyJobs, Ask]:
    """Each kind in turn."""
    jobs, ask = KINDS[request.param]
    return jobs(redis, keys), ask


@pytest.fixture(params=["edit", "evaluation"])
def of_facts(redis: Redis, keys: Keys, request: pytest.FixtureRequest) -> tuple[AnyJobs, Ask]:
    """Each kind that has facts."""
    jobs, ask = KINDS[request.param]
    return jobs(redis, keys), ask


class JobsMachine(RuleBasedStateMachine):
    """Moves jobs of all kinds about; `states` has them in the order in which they were created."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        super().__init__()
        client: Any = redis
        client.flushall()
        self.kinds = {noun: jobs(redis, keys) for noun, (jobs, _) in KINDS.items()}
        self.of: dict[str, AnyJobs] = {}
        self.states: dict[str, str] = {}
        self.attempts: dict[str, int] = {}
        self.cancelled: set[str] = set()

    def any_job(self, data: st.DataObject) -> tuple[AnyJobs, str]:
        # By number, because the ids differ at every run.
        job_id = list(self.states)[data.draw(st.integers(0, len(self.states) - 1))]
        return self.of[job_id], job_id

    @rule(noun=st.sampled_from(list(KINDS)))
    def create(self, noun: str) -> None:
        job_id, new = self.kinds[noun].create(KINDS[noun][1](1))
        assert new
        assert job_id not in self.states
        self.of[job_id] = self.kinds[noun]
        self.states[job_id] = "queued"
        self.attempts[job_id] = 0

    @precondition(lambda self: self.states)
    @rule(data=st.data())
    def take_up(self, data: st.DataObject) -> None:
        jobs, job_id = self.any_job(data)
        possible = self.states[job_id] in PENDING
        assert jobs.take_up(job_id) is possible
        if possible:
            self.states[job_id] = "running"
            self.attempts[job_id] += 1

    @precondition(lambda self: self.states)
    @rule(data=st.data())
    def hand_back(self, data: st.DataObject) -> None:
        jobs, job_id = self.any_job(data)
        possible = self.states[job_id] == "running"
        assert jobs.hand_back(job_id) is possible
        if possible:
            self.states[job_id] = "queued"
            self.attempts[job_id] -= 1

    @precondition(lambda self: self.states)
    @rule(data=st.data(), status=st.sampled_from(["failed", "cancelled"]))
    def end(self, data: st.DataObject, status: str) -> None:
        jobs, job_id = self.any_job(data)
        possible = self.states[job_id] in PENDING
        assert jobs.end_as(job_id, status, invalid("subject", "is odd").problem) is possible
        if possible:
            self.states[job_id] = status

    @precondition(lambda self: self.states)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        jobs, job_id = self.any_job(data)
        match self.states[job_id]:
            case "queued":
                jobs.cancel(job_id)
                self.states[job_id] = "cancelled"
            case "running":
                jobs.cancel(job_id)
                self.cancelled.add(job_id)
            case _:
                with pytest.raises(ProblemError) as raised:
                    jobs.cancel(job_id)
                assert raised.value.problem.status == 409

    @invariant()
    def documents_are_the_model(self) -> None:
        waiting = [job_id for job_id, status in self.states.items() if status in PENDING]
        assert in_line(self.kinds.values()) == [(self.of[job_id].noun, job_id) for job_id in waiting]
        for jobs in self.kinds.values():
            assert jobs.pending() == [job_id for job_id in waiting if self.of[job_id] is jobs]
        for job_id, status in self.states.items():
            job = self.of[job_id].get(job_id)
            assert (job.status, job.attempts) == (status, self.attempts[job_id])
            assert job.position == (waiting.index(job_id) if job_id in waiting else None), "one line for all kinds"
            assert (job.ended_at is None) is (status in PENDING)
            assert self.of[job_id].cancel_requested(job_id) is (job_id in self.cancelled)

    @invariant()
    def pages_are_all_jobs_of_a_kind_backwards(self) -> None:
        for jobs in self.kinds.values():
            newest_first = [job_id for job_id in reversed(self.states) if self.of[job_id] is jobs]
            assert _all_pages(jobs, None) == newest_first
            queued = [job_id for job_id in newest_first if self.states[job_id] == "queued"]
            assert _all_pages(jobs, "queued") == queued


def _all_pages(jobs: AnyJobs, status: str | None) -> list[str]:
    before, seen = None, []
    while True:
        page, before = jobs.newest(before, 3, status)
        assert len(page) <= 3
        seen += [job.id for job in page]
        if before is None:
            return seen
        assert page, "a cursor leads to jobs"


def test_any_life(redis: Redis, keys: Keys) -> None:
    class Machine(JobsMachine):
        def __init__(self) -> None:
            super().__init__(redis, keys)

    run_state_machine_as_test(Machine, settings=FEW)


@pytest.mark.parametrize("facts", [1, 3, 4, 50])
def test_what_was_asked_is_whole_or_at_a_glance(of_facts: tuple[AnyJobs, Ask], facts: int) -> None:
    jobs, ask = of_facts
    request = ask(facts)
    job_id, new = jobs.create(request)
    assert new
    whole, glance = jobs.get(job_id), jobs.glance(job_id)
    assert (whole.request, whole.fact_count, glance.fact_count) == (request, facts, facts)
    assert glance.request.facts == request.facts[:3]
    jobs.take_up(job_id)
    jobs.report(job_id, Progress(phase="value", step=1, steps=25))
    assert jobs.glance_again(glance) == jobs.glance(job_id) != glance
    assert jobs.newest(None, 5)[0] == [jobs.glance(job_id)]


def test_a_glance_does_not_grow_with_the_facts(of_facts: tuple[AnyJobs, Ask], redis: Redis, keys: Keys) -> None:
    jobs, ask = of_facts
    job_id, _ = jobs.create(ask(5000))
    client: Any = redis
    client.config_resetstat()
    before = client.info("stats")["total_net_output_bytes"]
    jobs.glance_again(jobs.glance(job_id))
    jobs.newest(None, 5)
    read = client.info("stats")["total_net_output_bytes"] - before
    assert read < 20_000 < len(client.hget(keys.job(jobs.noun, job_id), "request_facts"))


def test_an_idempotency_key_is_one_job(kind: tuple[AnyJobs, Ask]) -> None:
    jobs, ask = kind
    request, other = ask(1), ask(2)
    assert jobs.known(request, "k") is None
    made: list[tuple[str, bool]] = []
    threads = [threading.Thread(target=lambda: made.append(jobs.create(request, "k"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({job_id for job_id, _ in made}) == 1
    assert sorted(new for _, new in made) == [False] * 7 + [True]
    assert jobs.known(request, "k") == made[0][0]
    assert jobs.known(request, "another") is None
    for ask_again in (lambda: jobs.create(other, "k"), lambda: jobs.known(other, "k")):
        with pytest.raises(ProblemError, match="Use a new key") as raised:
            ask_again()
        assert raised.value.problem.status == 409
    assert len(jobs.pending()) == 1


def test_progress_is_announced_and_forgotten(kind: tuple[AnyJobs, Ask], redis: Redis, keys: Keys) -> None:
    jobs, ask = kind
    job_id, _ = jobs.create(ask(1))
    client: Any = redis
    with client.pubsub() as listener:
        listener.subscribe(keys.job_channel(jobs.noun, job_id))
        listener.get_message(timeout=60)
        jobs.take_up(job_id)
        jobs.report(job_id, Progress(phase="value", step=1, steps=25, loss=2.5))
        assert jobs.get(job_id).progress == Progress(phase="value", step=1, steps=25, loss=2.5)
        jobs.hand_back(job_id)
        assert jobs.get(job_id).progress is None
        jobs.cancel(job_id)
        heard = [listener.get_message(timeout=60)["data"] for _ in range(4)]
    assert heard == ["running", "progress", "queued", "cancel"]


def test_a_report_that_comes_late_changes_nothing(kind: tuple[AnyJobs, Ask]) -> None:
    jobs, ask = kind
    job_id, _ = jobs.create(ask(1))
    late = Progress(phase="commit", step=1, steps=1)
    jobs.report(job_id, late)
    assert jobs.get(job_id).progress is None
    jobs.take_up(job_id)
    jobs.end_as(job_id, "failed")
    ended = jobs.get(job_id)
    jobs.report(job_id, late)
    assert jobs.get(job_id) == ended
    assert ended.progress is None


def test_a_job_that_is_not_there(kind: tuple[AnyJobs, Ask], redis: Redis) -> None:
    jobs, _ = kind
    nobody = "0" * 16
    for ask in (jobs.get, jobs.glance, jobs.cancel):
        with pytest.raises(ProblemError, match=f"GET /{jobs.noun}s lists all {jobs.noun}s"):
            ask(nobody)
    assert jobs.take_up(nobody) is False
    assert jobs.end_as(nobody, "failed") is False
    assert jobs.cancel_requested(nobody) is False
    client: Any = redis
    assert client.keys("*") == []


def test_an_idempotency_key_of_one_kind_is_none_of_another(redis: Redis, keys: Keys) -> None:
    made = {jobs(redis, keys).create(ask(1), "k") for jobs, ask in KINDS.values()}
    assert [new for _, new in made] == [True] * len(KINDS)
    assert [len(jobs(redis, keys).pending()) for jobs, _ in KINDS.values()] == [1] * len(KINDS)


def test_an_idempotency_key_is_its_callers_own(kind: tuple[AnyJobs, Ask]) -> None:
    """Two callers who happen on one word make two jobs, and learn nothing of each other's."""
    jobs, ask = kind
    made = []
    for by in ("ada", "bob", ""):
        token = ORIGIN.set(Origin(by=by))
        try:
            assert jobs.known(ask(2), "k") is None
            made.append(jobs.create(ask(1), "k"))
            assert jobs.create(ask(1), "k") == (made[-1][0], False)
            assert jobs.known(ask(1), "k") == made[-1][0]
        finally:
            ORIGIN.reset(token)
    assert len(set(made)) == len(made)
    assert all(new for _, new in made)
    assert jobs.known(ask(1), f"ada:{jobs.noun}:k") is None
