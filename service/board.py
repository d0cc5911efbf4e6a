"""What the workers have put up in Redis about themselves: their heartbeats, their model's card and its tokenizer."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from redis import Redis
from tokenizers import Tokenizer

from service.checks import CountTokens, token_counter
from service.contracts.jobs import JobStatus
from service.contracts.model import ModelCard, WorkerState, WorkerStatus
from service.documents import Document
from service.errors import ProblemError, no_worker
from service.keys import Keys

# KEYS: workers; ARGV: what the key of a worker's heartbeat begins with.
_WORKERS = """
local found = {}
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local status = redis.call('GET', ARGV[1] .. name)
  if status then found[#found + 1] = status end
end
return found
"""


@dataclass(frozen=True)
class Notices:
    """The board at one moment. `workers`: the leader first, then those that are ready."""

    model: str
    workers: tuple[WorkerStatus, ...]
    card: ModelCard | None
    head: int | None

    @property
    def worker(self) -> WorkerStatus | None:
        """The leader; without one, the worker that is best to name."""
        return self.workers[0] if self.workers else None

    @property
    def ready(self) -> tuple[WorkerStatus, ...]:
        """The workers that answer readers."""
        return tuple(worker for worker in self.workers if worker.state is WorkerState.READY)

    def ready_card(self) -> ModelCard:
        """The card of a worker that is ready; otherwise a 503 problem that says what they are doing."""
        if not self.workers:
            raise no_worker(self.model, "none is running. Start one, and try again.")
        if not self.ready or self.card is None:
            doing = "; ".join(f"{worker.state} ({worker.detail})" for worker in self.workers)
            raise no_worker(self.model, f"it is {doing}. Try again soon.")
        return self.card

    def last_card(self) -> ModelCard:
        """The card of the last leader, there or not; a 503 problem if there has never been one."""
        if self.card is None:
            raise no_worker(self.model, "none has published its model yet. Start one, and try again.")
        return self.card

    def annotate(self, job: Document) -> Document:
        """The job, with a notice if it waits for a worker that is not ready."""
        worker = self.worker
        if job.status.ended or self.ready or (worker is not None and job.status == JobStatus.RUNNING):
            return job
        state = "there" if worker is None else f"ready ({worker.state}: {worker.detail})"
        waits = "waits until one is" if job.status == JobStatus.QUEUED else "is taken up again, or ended, when one is"
        return job.model_copy(update={"notice": f"No worker for {self.model} is {state}; the {job.noun} {waits}."})


class Board:
    """Reads the workers' notices; what is costly to parse is parsed once."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis: Any = redis
        self._keys = keys
        self._card: tuple[str, ModelCard] | None = None
        self._counter: tuple[str, CountTokens] | None = None

    def look(self) -> Notices:
        """Everything at once, in one round trip."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.eval(_WORKERS, 1, self._keys.workers, self._keys.worker(""))
        pipeline.get(self._keys.card)
        pipeline.xrevrange(self._keys.ledger, count=1)
        workers, card, last = pipeline.execute()
        return Notices(
            model=self._keys.model,
            workers=_in_order(map(WorkerStatus.model_validate_json, workers)),
            card=self._parsed(card) if card else None,
            head=int(last[0][0].split("-")[0]) if last else None,
        )

    def generations(self) -> int:
        """How many generations wait or are being answered."""
        return int(self._redis.xlen(self._keys.lane))

    def waiting_since(self, line: Iterable[tuple[str, str]]) -> datetime | None:
        """When the first of these jobs, noun and id, was accepted that does not run yet; None if all do."""
        for noun, job_id in line:
            status, created_at = self._redis.hmget(self._keys.job(noun, job_id), "status", "created_at")
            if status == JobStatus.QUEUED:
                return datetime.fromisoformat(created_at)
        return None

    def counter(self, card: ModelCard) -> CountTokens:
        """Counts tokens as the worker's model would."""
        known = self._counter
        if known is None or known[0] != card.tokenizer:
            self._counter = known = card.tokenizer, self._load_counter()
        return known[1]

    def _parsed(self, text: str) -> ModelCard:
        known = self._card
        if known is None or known[0] != text:
            self._card = known = text, ModelCard.model_validate_json(text)
        return known[1]

    def _load_counter(self) -> CountTokens:
        text = self._redis.get(self._keys.tokenizer)
        if text is None:
            raise ProblemError(503, "no-tokenizer", "The worker has not published its tokenizer. Restart it.")
        tokenizer = Tokenizer.from_str(text)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return token_counter(tokenizer)


def _in_order(workers: Iterable[WorkerStatus]) -> tuple[WorkerStatus, ...]:
    return tuple(
        sorted(workers, key=lambda one: (not one.leader, one.state is not WorkerState.READY, one.since, one.worker))
    )
