"""Answer short requests turn by turn: continuations, all in one batch, and moves of the head."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence

from service.checks import CountTokens, check_drift
from service.contracts.exports import ExportRequest
from service.contracts.lane import DecodeRequest, LaneAnswer, LaneRequest
from service.contracts.model import ModelCard
from service.contracts.problem import Problem
from service.contracts.revisions import ActivationRequest, Revision, RollbackRequest
from service.errors import ProblemError
from service.origin import ORIGIN, Origin, in_name_of
from worker.engine.asked import Asked
from worker.engine.decoding import Decoding
from worker.engine.device import device_error
from worker.engine.history import History
from worker.engine.prompting import accept
from worker.engine.turns import Turns
from worker.errors import CorruptStateError, WorkerError
from worker.telemetry import Telemetry

log = logging.getLogger(__name__)

Answer = Callable[[LaneRequest, LaneAnswer | None], None]
"""Sends an answer to whoever asked; None says that nobody waits any longer."""

MOST_ROWS = {"cpu": 32, "cuda": 128}
"""Rows decoded together: more gain little."""


class Readers:
    """Serves readers between the steps of an edit. Runs on the model thread.

    rows: how many are decoded at this moment. most_rows: decoded together, the others wait; cache_bytes: bounds the
    keys and values of those, one row excepted.
    """

    def __init__(
        self,
        history: History,
        card: ModelCard,
        count_tokens: CountTokens,
        most_rows: int,
        cache_bytes: int,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._history = history
        self._card = card
        self._count_tokens = count_tokens
        self._cache_bytes = cache_bytes
        self._telemetry = telemetry or Telemetry(card.name)
        self._asked: dict[str, tuple[Asked, Answer]] = {}
        self._turns = Turns(most_rows)
        self.rows = 0
        self._decoding = Decoding(history.resident.loaded, history.resident.view)

    def take_up(self, requests: Iterable[LaneRequest], answer: Answer) -> None:
        """Move the head at once; let continuations join at the next step, under the revisions of this moment."""
        for request in requests:
            if request.id in self._asked:
                continue  # it came back, because this worker was silent for so long that another had taken it
            with in_name_of(Origin(request.request_id, by=request.by)):
                self._admit(request, answer)

    def dismiss(self, ids: Collection[str]) -> None:
        """Free the rows of requests that nobody waits for any longer: these, and those past their deadline."""
        now = time.time()
        gone = [asked for key, (asked, _) in self._asked.items() if key in ids or asked.request.deadline < now]
        if gone:
            self._end(gone, lambda _: None)

    def step(self) -> bool:
        """Compute one step for those who wait, and tell them; returns whether there is more to compute."""
        self._advance_one()
        self._fill()
        if self._decoding.rows:
            self._guarded(self._decode, [asked for asked, _ in self._asked.values() if asked.speaks])
        self.rows = len(self._decoding.rows)
        self._tell()
        return bool(self._asked)

    def _admit(self, request: LaneRequest, answer: Answer) -> None:
        try:
            self._take_up(request, answer)
        except ProblemError as error:
            answer(request, _refused(request, error.problem))
        except CorruptStateError as error:
            # Of an old revision, which has to be rebuilt; the head is in memory and does not depend on it.
            log.exception("a revision cannot be rebuilt")
            answer(request, _refused(request, ProblemError(500, "revision-damaged", str(error)).problem))

    def _take_up(self, request: LaneRequest, answer: Answer) -> None:
        if isinstance(request.body, ExportRequest):
            raise TypeError("an export is the exporter's to make")
        if not isinstance(request.body, DecodeRequest):
            made = self._moved(request.id, request.body)
            log.info("r%d is made, by a %s", made.revision, made.kind)
            answer(request, LaneAnswer(id=request.id, revision=made))
            return
        asked = accept(request, request.body, self._history, self._card, self._count_tokens)
        self._telemetry.asked(sum(asked.started.prompt_tokens))
        self._asked[request.id] = asked, answer
        self._turns.enter(asked)
        if request.body.stream:
            answer(request, LaneAnswer(id=request.id, started=asked.started))

    def _moved(self, request: str, body: RollbackRequest | ActivationRequest) -> Revision:
        if (made := self._history.made_for(request)) is not None:
            return made
        asker = ORIGIN.get().asker
        if isinstance(body, RollbackRequest):
            return self._history.rollback(body.to, request, asker)
        if not body.active:
            return self._history.revert(body.edit, request, asker)
        check_drift(self._history.drift, self._card.ceilings)
        return self._history.reapply(body.edit, request, asker)

    def _advance_one(self) -> None:
        """One step beside the rows, for the request that has waited longest for one."""
        asked = next((asked for asked, _ in self._asked.values() if asked.steps is not None), None)
        if asked is not None:
            self._guarded(asked.advance, [asked])

    def _fill(self) -> None:
        """Let rows join while there is room for them; the only one always has it."""
        while (row := self._turns.next()) is not None:
            if self._decoding.rows and self._decoding.bytes_with(row) > self._cache_bytes:
                return
            self._turns.join(row)
            self._decoding.join([row])

    def _decode(self) -> None:
        rows = self._decoding.step()
        self._telemetry.decoded(len(rows))
        self._turns.leave([row for row in rows if row.finish is not None])

    def _guarded(self, compute: Callable[[], None], asking: Sequence[Asked]) -> None:
        """Compute something; if it fails, tell those who have asked for it. What ends the worker is raised."""
        try:
            compute()
        except WorkerError:
            raise
        except Exception as error:
            if device_error(error) is not None:
                raise
            # one step is of all of them together
            log.exception("the generation for %s failed", ", ".join(asked.request.request_id for asked in asking))
            problem = ProblemError(
                500, "generation-failed", "The generation failed; the worker's log says why."
            ).problem
            self._end(asking, lambda request: _refused(request, problem))

    def _tell(self) -> None:
        for asked, answer in list(self._asked.values()):
            request = asked.request
            if asked.spoke and not asked.heard:
                asked.heard = True
                self._telemetry.spoke(request.asked_at)
            if asked.body.stream and (pieces := asked.pieces()):
                answer(request, LaneAnswer(id=request.id, pieces=pieces))
            if asked.ended:
                del self._asked[request.id]
                self._telemetry.answered(request.asked_at)
                answer(request, LaneAnswer(id=request.id, decoded=asked.decoded()))

    def _end(self, asked: Sequence[Asked], answer: Callable[[LaneRequest], LaneAnswer | None]) -> None:
        """Let go of requests, all of them at once: where memory does not suffice, rows that stay cannot be moved."""
        ended = [self._asked.pop(each.request.id) for each in asked]
        rows = [row for each in asked for row in each.rows]
        self._turns.leave(rows)
        self._decoding.leave(rows)
        for each, send in ended:
            send(each.request, answer(each.request))


def _refused(request: LaneRequest, problem: Problem) -> LaneAnswer:
    return LaneAnswer(id=request.id, problem=problem)
