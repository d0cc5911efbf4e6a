"""What a worker might find out about a trace, and a worker that does."""

from typing import Any

from service.contracts.traces import Effects, TraceRequest, TraceResult
from service.traces import Traces
from tests.service.stand_in import EIFFEL, StandIn

BODY = {name: EIFFEL[name] for name in ("prompt", "subject")}
"""What asks for a trace."""

LAYERS = 5


def trace_result(request: TraceRequest, revision: int = 0, **changes: Any) -> TraceResult:
    """The effects of each word; they are largest at the subject's last one, in layer 1."""
    tokens = tuple(request.prompt.split(" "))
    begin = request.prompt[: request.prompt.index(request.subject)].count(" ")
    end = begin + len(request.subject.split(" "))
    traced = tuple(range(len(tokens))) if request.tokens == "all" else (end - 1,)
    mean = tuple(tuple(0.5 / (1 + abs(at - end + 1) + abs(layer - 1)) for layer in range(LAYERS)) for at in traced)
    fields = {
        "revision": revision,
        "checksum": f"c{revision}",
        "target": request.target or "Paris",
        "known": request.target in (None, "Paris"),
        "tokens": tokens,
        "subject": (begin, end),
        "traced": traced,
        "high": 0.75,
        "low": 0.0625,
        "low_error": 0.01,
        "sigma": 0.125,
        "noise": 0.125 * request.noise,
        "window": request.window or 3,
        "effects": {kind: Effects(mean=mean, error=mean) for kind in request.kinds},
        "timings": {"clean": 0.5, "restore": 2.0},
    }
    return TraceResult.model_validate({**fields, **changes})


def traces_of(worker: StandIn) -> Traces:
    """The traces' documents."""
    return Traces(worker.redis, worker.keys)


def carry_out(worker: StandIn, trace_id: str, **changes: Any) -> TraceResult:
    """Bring a trace to its end."""
    traces = traces_of(worker)
    traces.take_up(trace_id)
    request = traces.get(trace_id).request
    revision = worker.ledger.resolve(request.revision)
    traces.settle(trace_id, revision)
    found = trace_result(request, revision, **changes)
    traces.complete(trace_id, found)
    return found
