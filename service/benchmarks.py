"""The benchmarks of a model: long jobs that edit the records of a data set, score them, and keep no edit."""

from typing import Any

from redis import Redis

from service.contracts.benchmarks import Benchmark, BenchmarkRequest
from service.documents import Shape, set_apart
from service.jobs import ReadingJobs
from service.keys import Keys


class Benchmarks(ReadingJobs[BenchmarkRequest, Benchmark]):
    """The benchmark documents of one model; at a glance they have no records."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        super().__init__(redis, keys, Shape(Benchmark, found="result"))

    def asked(self, request: BenchmarkRequest) -> dict[str, str]:
        """The fields with which a benchmark begins."""
        return set_apart("request", request, "records")

    def found(self, result: Any) -> dict[str, str]:
        """The fields of a completed one."""
        return set_apart("result", result, "records")
