"""The traces of a model: long jobs that look for the states that an answer depends on."""

from typing import Any

from redis import Redis

from service.contracts.traces import Trace, TraceRequest
from service.documents import Shape, set_apart
from service.jobs import ReadingJobs
from service.keys import Keys


class Traces(ReadingJobs[TraceRequest, Trace]):
    """The trace documents of one model; at a glance they have neither effects nor the subjects behind the noise."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        super().__init__(redis, keys, Shape(Trace, found="result"))

    def asked(self, request: TraceRequest) -> dict[str, str]:
        """The fields with which a trace begins."""
        return set_apart("request", request, "noise_subjects")

    def found(self, result: Any) -> dict[str, str]:
        """The fields of a completed one."""
        return set_apart("result", result, "effects")
