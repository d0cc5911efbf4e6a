"""Traces answers with the weights of any revision; the model stays as it is."""

from collections.abc import Sequence

from torch import Tensor

from service.contracts.traces import Effects, TraceRequest, TraceResult
from service.ledger import Ledger
from worker.editing.progress import Steps, timed, within
from worker.engine.at_revision import weights_of
from worker.engine.history import History
from worker.tracing.trace import Found, trace

DIGITS = 6
"""Significant ones that a result has: a float32 knows no more."""


class Tracer:
    """Computes traces on the resident model. Runs on the model thread."""

    def __init__(self, history: History, ledger: Ledger) -> None:
        self._history = history
        self._ledger = ledger

    def run(self, request: TraceRequest, revision: int) -> Steps[TraceResult]:
        """Trace what is asked at a revision that exists, however the head moves meanwhile."""
        seconds: dict[str, float] = {}
        resident = self._history.resident
        weights = yield from timed(weights_of(self._history, revision), seconds, "fold")
        steps = within(lambda: resident.view([weights]), trace(resident.loaded, request))
        found = yield from timed(steps, seconds, "restore")
        return _result(found, request, revision, self._ledger.entries()[revision].checksum, seconds)


def _result(
    found: Found, request: TraceRequest, revision: int, checksum: str, seconds: dict[str, float]
) -> TraceResult:
    asked = found.asked
    return TraceResult(
        revision=revision,
        checksum=checksum,
        target=asked.answer,
        known=found.clean.top,
        tokens=asked.tokens,
        subject=(asked.subject.start, asked.subject.stop),
        traced=tuple(found.tokens),
        high=_rounded(found.clean.probability),
        low=_rounded(float(found.low.mean())),
        low_error=None if len(found.low) == 1 else _rounded(float(_error(found.low))),
        sigma=_rounded(found.sigma),
        noise=_rounded(request.noise * found.sigma),
        window=found.window,
        effects={kind: _effects(restored - found.low) for kind, restored in found.restored.items()},
        timings=seconds,
    )


def _effects(gains: Tensor) -> Effects:
    """Of what each restored run has gained, [N, L, S]."""
    error = None if gains.shape[-1] == 1 else _table(_error(gains))
    return Effects(mean=_table(gains.mean(-1)), error=error)


def _error(samples: Tensor) -> Tensor:
    """The standard error of the mean over the last dimension."""
    found: Tensor = samples.std(-1) / samples.shape[-1] ** 0.5
    return found


def _table(values: Tensor) -> tuple[tuple[float, ...], ...]:
    rows: Sequence[Sequence[float]] = values.tolist()
    return tuple(tuple(map(_rounded, row)) for row in rows)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
