"""Answer the requests of the generation stream: comparisons in one batch, and moves of the head."""

import logging
import secrets
import time
from collections.abc import Callable, Sequence

from service.checks import CountTokens, check_drift, check_generation
from service.contracts.generate import Comparison, Continuation, GenerateAnswer, GenerateRequest
from service.contracts.lane import LaneAnswer, LaneRequest
from service.contracts.model import ModelCard
from service.contracts.revisions import ActivationRequest, Revision, RollbackRequest
from service.errors import ProblemError, not_found
from worker.engine.device import device_error
from worker.engine.generation import Wanted, decode
from worker.engine.history import History
from worker.errors import CorruptStateError, WorkerError

log = logging.getLogger(__name__)


class Readers:
    """Serves what arrived while the model was busy. Runs on the model thread."""

    def __init__(self, history: History, card: ModelCard, count_tokens: CountTokens) -> None:
        self._history = history
        self._card = card
        self._count_tokens = count_tokens

    def serve(self, requests: Sequence[LaneRequest], answer: Callable[[LaneRequest, LaneAnswer], None]) -> None:
        """Answer every request, each with its result or with its problem."""
        comparing: list[tuple[LaneRequest, GenerateRequest, list[Wanted]]] = []
        for request in requests:
            try:
                match request.body:
                    case GenerateRequest() as body:
                        comparing.append((request, body, self._wanted(body)))
                    case body:
                        answer(request, LaneAnswer(revision=self._moved(request.id, body)))
            except ProblemError as error:
                answer(request, LaneAnswer(problem=error.problem))
            except CorruptStateError as error:
                # Of an old revision, which has to be rebuilt; the head is in memory and does not depend on it.
                log.exception("a revision cannot be rebuilt")
                problem = ProblemError(500, "revision-damaged", str(error)).problem
                answer(request, LaneAnswer(problem=problem))
        if comparing:
            try:
                self._decode(comparing, answer)
            except WorkerError:
                raise
            except Exception as error:
                if device_error(error) is not None:
                    raise
                log.exception("a generation failed")
                problem = ProblemError(
                    500, "generation-failed", "The generation failed; the worker's log says why."
                ).problem
                for request, *_ in comparing:
                    answer(request, LaneAnswer(problem=problem))

    def _moved(self, request: str, body: RollbackRequest | ActivationRequest) -> Revision:
        if (made := self._history.made_for(request)) is not None:
            return made
        if isinstance(body, RollbackRequest):
            return self._history.rollback(body.to, request)
        if not body.active:
            return self._history.revert(body.edit, request)
        check_drift(self._history.drift, self._card.ceilings)
        return self._history.reapply(body.edit, request)

    def _decode(
        self,
        comparing: Sequence[tuple[LaneRequest, GenerateRequest, list[Wanted]]],
        answer: Callable[[LaneRequest, LaneAnswer], None],
    ) -> None:
        begin = time.perf_counter()
        resident = self._history.resident
        wanted = [row for _, _, rows in comparing for row in rows]
        decoded = iter(decode(resident.loaded, resident.view, wanted))
        for request, body, rows in comparing:
            sides = [next(decoded) for _ in rows]
            results = tuple(
                _compared(prompt, before, after)
                for prompt, before, after in zip(body.prompt, sides[::2], sides[1::2], strict=True)
            )
            generated = GenerateAnswer(
                revision=rows[-1].revision,
                model=resident.loaded.name,
                seed=rows[0].seed if body.temperature > 0 else body.seed,
                results=results,
                seconds=time.perf_counter() - begin,
            )
            answer(request, LaneAnswer(generated=generated))

    def _wanted(self, body: GenerateRequest) -> list[Wanted]:
        check_generation(body, self._card, self._count_tokens)
        seed = secrets.randbits(63) if body.seed is None else body.seed
        before, after = self._number(body.before), self._number(body.after)
        return [
            Wanted(
                prompt=prompt,
                revision=revision,
                weights=self._history.weights_at(revision),
                max_new_tokens=body.max_new_tokens,
                temperature=body.temperature,
                top_p=body.top_p,
                seed=seed,
            )
            for prompt in body.prompt
            for revision in (before, after)
        ]

    def _number(self, name: str | int) -> int:
        head = self._history.resident.revision
        number = {"base": 0, "head": head}.get(name, name) if isinstance(name, str) else name
        if int(number) > head:
            raise not_found(f"revision r{number}", f"Revisions r0 to r{head} exist; GET /revisions lists them.")
        return int(number)


def _compared(prompt: str, before: Continuation, after: Continuation) -> Comparison:
    parts = next(
        (at for at, pair in enumerate(zip(before.tokens, after.tokens, strict=False)) if pair[0] != pair[1]), None
    )
    if parts is None and len(before.tokens) != len(after.tokens):
        parts = min(len(before.tokens), len(after.tokens))
    return Comparison(prompt=prompt, before=before, after=after, parts_at=parts)
