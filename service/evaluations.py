"""The evaluations of a model: long jobs that score facts at a revision and leave the model as it is."""

from typing import Any

from redis import Redis

from service.contracts.evaluations import Evaluation, EvaluationRequest
from service.documents import Shape, request_fields
from service.jobs import ReadingJobs
from service.keys import Keys


class Evaluations(ReadingJobs[EvaluationRequest, Evaluation]):
    """The evaluation documents of one model."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        super().__init__(redis, keys, Shape(Evaluation, found="result"))

    def asked(self, request: EvaluationRequest) -> dict[str, str]:
        """The fields with which an evaluation begins; how many facts are active is not known yet."""
        count = {} if request.facts == "active" else {"fact_count": str(len(request.facts))}
        return {**request_fields(request), **count}

    def found(self, result: Any) -> dict[str, str]:
        """The fields of a completed one."""
        return {"fact_count": str(len(result.facts)), **super().found(result)}
