"""One benchmark on the resident model: every unit that is not done yet, each on a view of the weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from service.contracts.benchmarks import BenchmarkRequest, RecordOutcome
from service.contracts.records import Record
from service.contracts.scores import Drift
from service.errors import ProblemError
from worker.benchmarking.choosing import facts_of
from worker.benchmarking.journal import Journal, Line, line_of
from worker.benchmarking.plan import Clock, Unit, units_of
from worker.benchmarking.result import Done
from worker.benchmarking.scoring import checkpoint, is_finite, outcome, score
from worker.editing.delta import WeightDelta
from worker.editing.hparams import Hparams
from worker.editing.progress import Step, Steps, mapped, timed
from worker.engine.computation import ActiveKeys, Computation, sound
from worker.engine.history import History
from worker.engine.notes import Notes
from worker.engine.state import State
from worker.errors import EditError, StorageError
from worker.evaluation.drift import DriftMeter
from worker.evaluation.generated import fitted_to

ONCE = ("statistics", "templates")
"""Phases that the first edit of a model goes through for all: no part of the time of an edit."""


@dataclass(frozen=True)
class Base:
    """What the edits are made on: a revision's state, and the deltas that are in it."""

    state: State
    deltas: Sequence[WeightDelta]

    def norms(self, edited: State) -> dict[int, float]:
        """|W - W_of_this| / |W_of_this| (Frobenius) of each layer that an edit has changed since, before W is cast."""
        changed = (layer for layer, total in sorted(edited.sums.items()) if total is not self.state.sums.get(layer))
        return {layer: self._norm(edited, layer) for layer in changed}

    def _norm(self, edited: State, layer: int) -> float:
        change, weight = edited.sums[layer].total(), edited.resident.base_of_layer(layer).double()
        if (known := self.state.sums.get(layer)) is not None:
            change, weight = change - known.total(), weight + known.total()
        return float(change.norm() / weight.norm())


@dataclass
class Standing:
    """What the next edit is made on: always the base, or in a sequence all edits before it.

    written: the records whose edits are in it.
    """

    state: State
    deltas: list[WeightDelta]
    written: list[int]
    edits: int = 0


class Run:
    """A benchmark that is being run. Nothing that it does is seen by anybody else: the model stays as it is.

    labels, hparams: of each method.
    """

    def __init__(
        self,
        history: History,
        computation: Computation,
        journal: Journal,
        request: BenchmarkRequest,
        records: Sequence[Record],
        labels: Sequence[str],
        hparams: Sequence[Hparams],
    ) -> None:
        self._history = history
        self._computation = computation
        self._journal = journal
        self._request = request
        self._records = records
        self._labels = labels
        self._hparams = hparams
        self._references = fitted_to(records) if request.generation else None
        self._meter: DriftMeter | None = None
        self._plan = [units_of(request, method, len(records)) for method in range(len(labels))]
        self._clock = Clock([unit for units in self._plan for unit in units])

    def run(self, base: Base, lines: Mapping[tuple[int, int], Line]) -> Steps[list[Done]]:
        """What came of every unit, method by method; those of which there are lines already are not done again."""
        for method, units in enumerate(self._plan):
            for unit in units:
                if (known := lines.get((method, unit.index))) is not None:
                    self._clock.done(unit, sum(known.timings.values()))
        found: list[Done] = []
        for units in self._plan:
            found.append((yield from self._method(base, units, lines)))
        return found

    def _method(self, base: Base, units: Sequence[Unit], lines: Mapping[tuple[int, int], Line]) -> Steps[Done]:
        so_far = Standing(base.state, list(base.deltas), [])
        found: list[tuple[Unit, Line]] = []
        for unit in units:
            line = lines.get((unit.method, unit.index))
            if line is None:
                steps = self._edit(base, so_far, unit) if unit.edits else self._look(base, so_far, unit, found)
                line = yield from mapped(steps, partial(self._told, unit.method))
                self._journal.append(line)
                self._clock.done(unit, sum(line.timings.values()))
            elif line.blob is not None:
                delta = self._journal.deltas.get(line.blob)
                self._write(so_far, unit, delta, so_far.state.plus(delta))
            found.append((unit, line))
        return found

    def _edit(self, base: Base, so_far: Standing, unit: Unit) -> Steps[Line]:
        """One edit, and its scores unless it is one of a sequence."""
        records, notes = self._records[unit.begin : unit.end], Notes()
        hparams, method = self._hparams[unit.method], self._request.methods[unit.method].method
        keys = _keys_of(tuple(so_far.deltas), base.state)
        steps = self._computation.delta(method, facts_of(records), hparams, so_far.state, keys)
        try:
            delta = yield from notes.taken(steps, "update")
            edited = sound(delta, so_far.state)
        except StorageError:
            raise
        except (EditError, ProblemError) as error:
            seconds = _seconds(notes)
            failed = RecordOutcome(problem=str(error), seconds=seconds / unit.size)
            return line_of(unit, outcomes=dict.fromkeys(range(unit.begin, unit.end), failed), timings=notes.seconds)
        seconds = _seconds(notes)
        found = {"seconds": seconds, "timings": notes.seconds, "warnings": notes.warnings}
        if not unit.scores:
            blob = self._journal.deltas.put(delta)
            self._write(so_far, unit, delta, edited)
            return line_of(unit, blob=blob, **found)
        scoring = score(self._history.resident, records, base.state.weights, edited.weights, self._references)
        scores = yield from timed(scoring, notes.seconds, "measure")
        outcomes = {unit.begin + at: outcome(one, seconds / unit.size) for at, one in enumerate(scores)}
        drift = yield from timed(self._drift(base, edited), notes.seconds, "drift")
        return line_of(unit, outcomes=outcomes, drift=drift, **found)

    def _look(self, base: Base, so_far: Standing, unit: Unit, before: Done) -> Steps[Line]:
        """Score everything that a sequence has written so far."""
        if not so_far.written:
            return line_of(unit)
        records, seconds = [self._records[at] for at in so_far.written], dict[str, float]()
        weights = so_far.state.weights
        scoring = score(self._history.resident, records, base.state.weights, weights, self._references)
        scores = yield from timed(scoring, seconds, "measure")
        outcomes = {at: outcome(one, 0.0) for at, one in zip(so_far.written, scores, strict=True)}
        drift = yield from timed(self._drift(base, so_far.state), seconds, "drift")
        looks = [earlier.end for earlier, line in before if line.checkpoint is not None]
        first, last = range(looks[0] if looks else unit.end), range(looks[-1] if looks else 0, unit.end)
        found = checkpoint(so_far.edits, outcomes, first, last, drift) if drift is not None else None
        is_last = unit is self._plan[unit.method][-1]
        return line_of(unit, outcomes=outcomes if is_last else {}, checkpoint=found, drift=drift, timings=seconds)

    def _write(self, so_far: Standing, unit: Unit, delta: WeightDelta, edited: State) -> None:
        so_far.state = edited
        so_far.deltas.append(delta)
        so_far.written += range(unit.begin, unit.end)
        so_far.edits += 1

    def _drift(self, base: Base, edited: State) -> Steps[Drift | None]:
        """How far the edits lead from what they were made on: a revision's own drift is none of theirs."""
        yield Step("drift", 1, 1)
        if self._meter is None:
            self._meter = DriftMeter(self._history.resident.loaded, base.state.view({}))
        found = self._meter.measure(edited.view({}), base.norms(edited))
        return found if is_finite(found) else None

    def _told(self, method: int, step: Step) -> Step:
        """The step as a part of the whole: the records that are done, of all."""
        within = f" {step.step}/{step.steps}" if step.steps > 1 else ""
        clock = self._clock
        phase = f"{self._labels[method]}: {step.phase}{within}"
        return replace(step, phase=phase, step=clock.step, steps=clock.steps, seconds_left=clock.seconds_left)


def _seconds(notes: Notes) -> float:
    return sum(seconds for phase, seconds in notes.seconds.items() if phase not in ONCE)


def _keys_of(deltas: Sequence[WeightDelta], state: State) -> ActiveKeys:
    def keys(layer: int) -> Tensor:
        known = [delta.keys[layer] for delta in deltas if layer in delta.keys]
        width = state.resident.base_of_layer(layer).shape[1]
        return torch.cat([torch.empty(width, 0), *known], dim=1)

    return keys
