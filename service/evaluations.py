"""The evaluations of a model: long jobs that score facts at a revision and leave the model as it is."""

from redis import Redis

from service.contracts.evaluations import Evaluation, EvaluationRequest, EvaluationResult
from service.contracts.jobs import JobStatus
from service.documents import Shape, cut, request_fields
from service.jobs import Jobs
from service.keys import Keys


class Evaluations(Jobs[EvaluationRequest, Evaluation]):
    """The evaluation documents of one model."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        super().__init__(redis, keys, Shape(Evaluation, found="result"))

    def asked(self, request: EvaluationRequest) -> dict[str, str]:
        """The fields with which an evaluation begins; how many facts are active is not known yet."""
        count = {} if request.facts == "active" else {"fact_count": str(len(request.facts))}
        return {**request_fields(request), **count}

    def settle(self, job_id: str, revision: int) -> None:
        """Note which revision is scored, whatever becomes of the head meanwhile."""
        self._note(job_id, "revision", {"revision": str(revision)})

    def complete(self, job_id: str, result: EvaluationResult) -> bool:
        """End a running evaluation with what it found; False if it has ended already."""
        found = {"fact_count": str(len(result.facts)), **cut("result", result)}
        return self.end_as(job_id, JobStatus.COMPLETED, found=found)
