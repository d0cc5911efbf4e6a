"""What the worker has put up in Redis about itself: its heartbeat, its model's card and its tokenizer."""

from dataclasses import dataclass
from typing import Any

from redis import Redis
from tokenizers import Tokenizer

from service.checks import CountTokens, token_counter
from service.contracts.jobs import JobStatus
from service.contracts.model import ModelCard, WorkerState, WorkerStatus
from service.documents import Document
from service.errors import ProblemError, no_worker
from service.keys import Keys


@dataclass(frozen=True)
class Notices:
    """The board at one moment."""

    model: str
    worker: WorkerStatus | None
    card: ModelCard | None
    head: int | None

    def ready_card(self) -> ModelCard:
        """The card of a worker that is ready; otherwise a 503 problem that says what it is doing."""
        if self.worker is None:
            raise no_worker(self.model, "none is running. Start one, and try again.")
        if self.worker.state is not WorkerState.READY or self.card is None:
            raise no_worker(self.model, f"it is {self.worker.state} ({self.worker.detail}). Try again soon.")
        return self.card

    def last_card(self) -> ModelCard:
        """The card of the last worker, there or not; a 503 problem if there has never been one."""
        if self.card is None:
            raise no_worker(self.model, "none has published its model yet. Start one, and try again.")
        return self.card

    def annotate(self, job: Document) -> Document:
        """The job, with a notice if it waits for a worker that is not ready."""
        if job.status.ended or (self.worker is not None and self.worker.state is WorkerState.READY):
            return job
        if self.worker is not None and job.status == JobStatus.RUNNING:
            return job
        state = "there" if self.worker is None else f"ready ({self.worker.state}: {self.worker.detail})"
        waits = "waits until one is" if job.status == JobStatus.QUEUED else "is taken up again, or ended, when one is"
        return job.model_copy(update={"notice": f"No worker for {self.model} is {state}; the {job.noun} {waits}."})


class Board:
    """Reads the worker's notices; what is costly to parse is parsed once."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis: Any = redis
        self._keys = keys
        self._card: tuple[str, ModelCard] | None = None
        self._counter: tuple[str, CountTokens] | None = None

    def look(self) -> Notices:
        """Everything at once, in one round trip."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.get(self._keys.worker)
        pipeline.get(self._keys.card)
        pipeline.xrevrange(self._keys.ledger, count=1)
        worker, card, last = pipeline.execute()
        return Notices(
            model=self._keys.model,
            worker=WorkerStatus.model_validate_json(worker) if worker else None,
            card=self._parsed(card) if card else None,
            head=int(last[0][0].split("-")[0]) if last else None,
        )

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
