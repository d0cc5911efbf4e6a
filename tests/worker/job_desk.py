"""Jobs of any kind on a real Redis and a real model thread, which do what a test says."""

import threading
from collections.abc import Callable
from typing import Any

from redis import Redis

from service.benchmarks import Benchmarks
from service.contracts.benchmarks import BenchmarkRequest
from service.contracts.edits import EditRequest, Fact
from service.contracts.evaluations import EvaluationRequest
from service.contracts.model import MethodCard
from service.contracts.traces import TraceRequest
from service.edits import Edits
from service.evaluations import Evaluations
from service.jobs import Jobs
from service.keys import Keys
from service.traces import Traces
from tests.service.stand_in import model_card
from worker.editing.progress import Step
from worker.engine.model_thread import ModelThread
from worker.job import Job
from worker.jobs import BenchmarkJob, EditJob, EvaluationJob, TraceJob

FACT = Fact(prompt="Rome is in", subject="Rome", target_new="Spain")
REQUEST = EditRequest(**FACT.model_dump(), hparams={})
SCORE = EvaluationRequest(facts=(FACT,))
TRACE = TraceRequest(prompt=FACT.prompt, subject=FACT.subject, target=FACT.target_new, samples=2)
BENCH = BenchmarkRequest.model_validate({"methods": ["rome"], "n": 2})
ASKED = {"edit": REQUEST, "evaluation": SCORE, "trace": TRACE, "benchmark": BENCH}
METHOD = MethodCard(name="rome", title="", source="", hparams_schema={}, defaults={})
CARD = model_card(methods=(METHOD,), context_length=100, template_tokens=0)


class Desk:
    """Jobs of one kind on a real Redis and a real model thread, which do what the test says."""

    def __init__(self, redis: Redis, keys: Keys, noun: str) -> None:
        self.noun = noun
        self.edits, self.evaluations = Edits(redis, keys), Evaluations(redis, keys)
        self.traces, self.benchmarks = Traces(redis, keys), Benchmarks(redis, keys)
        kinds: dict[str, Jobs[Any, Any]] = {
            "edit": self.edits,
            "evaluation": self.evaluations,
            "trace": self.traces,
            "benchmark": self.benchmarks,
        }
        self.jobs = kinds[noun]
        self.draining, self.stop = threading.Event(), threading.Event()
        self.thread = ModelThread()
        self.thread.start()
        self.ran: list[str] = []
        self.fence: Callable[[], None] = lambda: None
        self.begun = threading.Event()

    def job(self, steps: int, error: Exception | None = None) -> Job[Any, Any]:
        """What RQ calls; a job takes so many steps, then raises."""
        start = self.start(steps, error)
        checked, ending = (self.thread, CARD, len), (self.draining, self.stop, self._fence)
        if self.noun == "edit":
            return EditJob(self.edits, *checked, start, *ending)
        if self.noun == "evaluation":
            return EvaluationJob(self.evaluations, *checked, lambda _: 7, start, *ending)
        if self.noun == "trace":
            return TraceJob(self.traces, *checked, lambda _: 7, start, *ending)
        return BenchmarkJob(self.benchmarks, *checked, lambda _: 7, start, *ending)

    def start(self, steps: int, error: Exception | None = None) -> Callable[[Any, Any], Any]:
        """The computation of such a job."""

        def start(asked: Any, _: Any) -> Any:
            self.ran.append(asked if self.noun == "edit" else FACT.target_new)
            for step in range(steps):
                self.begun.set()
                yield Step("value", step, steps)
                threading.Event().wait(0.005)
            if error is not None:
                raise error
            raise AssertionError("ran to its end")

        return start

    def _fence(self) -> None:
        self.fence()

    def new(self) -> str:
        return self.jobs.create(ASKED[self.noun])[0]

    def names(self, *job_ids: str) -> list[str]:
        """What `ran` says of these jobs: an evaluation is not told its id."""
        return list(job_ids) if self.noun == "edit" else [FACT.target_new for _ in job_ids]

    def close(self) -> None:
        """End the model thread."""
        self.thread.end()
        self.thread.join(timeout=60)
