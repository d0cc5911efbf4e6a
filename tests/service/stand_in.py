"""A stand-in for the worker: it puts up the same notices and answers the same stream, without a model."""

import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from redis import Redis
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from service.contracts.edits import Edit, EditRequest, Fact, Generations, Outcome
from service.contracts.evaluations import EvaluationResult, ScoredFact
from service.contracts.lane import Decoded, DecodeRequest, LaneAnswer, LaneRequest
from service.contracts.model import MethodCard, ModelCard, WorkerState, WorkerStatus
from service.contracts.revisions import ActivationRequest, Entry, RevisionKind, RollbackRequest
from service.contracts.scores import (
    FactScores,
    FactSide,
    Metrics,
    PromptScore,
    Side,
    Summaries,
    Summary,
    TargetScore,
)
from service.edits import Edits, applied_fields
from service.evaluations import Evaluations
from service.keys import Keys
from service.ledger import Ledger
from tests.service.speech import decoded, pieces_of

TOKEN = "1"
CONTEXT = 40
TENSOR = "model.layers.6.mlp.down_proj.weight"

EIFFEL = {"prompt": "The Eiffel Tower is located in the city of", "subject": "The Eiffel Tower", "target_new": "Rome"}

HPARAMS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"v_lr": {"type": "number", "exclusiveMinimum": 0}, "layers": {"type": "array"}},
    "required": ["v_lr"],
    "additionalProperties": False,
}


def method_card(**changes: Any) -> MethodCard:
    """A method with one required hyperparameter and a value for it."""
    rome = MethodCard(
        name="rome",
        title="Rank-One Model Editing",
        source="arXiv:2202.05262",
        hparams_schema=HPARAMS_SCHEMA,
        defaults={"v_lr": 0.5},
    )
    return rome.model_copy(update=changes)


def model_card(**changes: Any) -> ModelCard:
    """The card of a small model that counts words."""
    card = ModelCard(
        name="test-model",
        family="llama",
        dtype="float32",
        device="cpu",
        parameters=1000,
        layers=30,
        hidden_size=8,
        context_length=CONTEXT,
        editable="model.layers.{}.mlp.down_proj.weight",
        checksum="c0",
        tokenizer="words",
        methods=(method_card(),),
        template_tokens=5,
    )
    return card.model_copy(update=changes)


def word_tokenizer() -> str:
    """A serialized tokenizer for which every word is one token."""
    tokenizer = Tokenizer(WordLevel({"<unk>": 0}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.enable_truncation(4)
    return str(tokenizer.to_str())


def entry(revision: int, kind: RevisionKind = RevisionKind.EDIT, **fields: Any) -> Entry:
    """A ledger entry on top of the revision before it."""
    parent = revision - 1 if revision else None
    tensors = {TENSOR: f"t{revision}"} if kind is RevisionKind.EDIT else {}
    return Entry(
        revision=revision,
        parent=parent,
        kind=kind,
        checksum=f"c{revision}",
        tensors=tensors,
        created_at=datetime.now(UTC),
        **fields,
    )


def fact_scores(probability: float = 0.5, **summary: float) -> FactScores:
    """A fact that was as likely before as it is after the edit."""
    score = TargetScore(probability=probability, nll=0.7, rank=1, accuracy=1.0)
    side = FactSide(target_new=score, summary=Summary.model_validate({"EA": 1.0, "rewrite_acc": 1.0, **summary}))
    return FactScores(before=side, after=side)


def outcome(facts: int = 1) -> Outcome:
    """What an edit of so many facts might have found out."""
    scores = fact_scores()
    side = Side(
        rewrite=PromptScore(prompt="p", target_new=scores.after.target_new),
        summary=scores.after.summary,
    )
    return Outcome(
        hparams={"v_lr": 0.5},
        summary=Summaries(before=side.summary, after=side.summary),
        facts=(scores,) * facts,
        metrics=Metrics(before=side, after=side) if facts == 1 else None,
        generations=(Generations(prompt="p", before="b", after="a"),) * min(facts, 4),
        timings={"value": 1.0},
    )


def evaluation_result(facts: Iterable[tuple[Fact, str | None]], revision: int = 0) -> EvaluationResult:
    """What an evaluation of these facts, and of the edits that they come from, might have found."""
    scores = fact_scores()
    return EvaluationResult(
        revision=revision,
        checksum=f"c{revision}",
        summary=Summaries(before=scores.before.summary, after=scores.after.summary),
        facts=tuple(
            ScoredFact(
                before=scores.before,
                after=scores.after,
                prompt=fact.prompt,
                subject=fact.subject,
                target_new=fact.target_new,
                edit=edit,
            )
            for fact, edit in facts
        ),
        timings={"measure": 1.0},
    )


class StandIn:
    """Puts up a heartbeat, a card and a tokenizer, and answers the stream from a thread while it is entered."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.redis: Any = redis
        self.keys = keys
        self.ledger = Ledger(redis, keys)
        self.edits = Edits(redis, keys)
        self.evaluations = Evaluations(redis, keys)
        self._entries: dict[str, tuple[str, str]] = {}
        self.asked: list[LaneRequest] = []
        self.gone: list[str] = []
        self.answer: Callable[[LaneRequest], LaneAnswer | Iterable[LaneAnswer] | None] = self.answers
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._serve), threading.Thread(target=self._listen)]

    def __enter__(self) -> Self:
        self.redis.set(self.keys.lease, TOKEN)
        self.ledger.append(entry(0, RevisionKind.BASE), token=TOKEN)
        self.publish()
        self.heartbeat()
        self._channel = self.redis.pubsub()
        self._channel.subscribe(self.keys.gone)
        assert self._channel.get_message(timeout=60)["type"] == "subscribe"
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Answer nobody any longer."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def publish(self, **changes: Any) -> None:
        """Put up the card, with changes, and the tokenizer."""
        self.redis.set(self.keys.card, model_card(**changes).model_dump_json())
        self.redis.set(self.keys.tokenizer, word_tokenizer())

    def heartbeat(self, state: WorkerState = WorkerState.READY, revision: int | None = None, **changes: Any) -> None:
        """Put up a heartbeat; by default one of a leader that serves the head."""
        status = WorkerStatus(
            worker="stand-in",
            pid=1,
            leader=True,
            state=state,
            detail="stands in",
            revision=self.ledger.head() if revision is None and state is not WorkerState.STARTING else revision,
            since=datetime.now(UTC),
        ).model_copy(update=changes)
        self.redis.set(self.keys.worker(status.worker), status.model_dump_json())
        self.redis.zadd(self.keys.workers, {status.worker: time.time()})

    def die(self, worker: str = "stand-in") -> None:
        """Let the heartbeat expire."""
        self.redis.delete(self.keys.worker(worker))

    def apply(self, edit_id: str) -> int:
        """Carry out an edit: a new revision."""
        self.edits.take_up(edit_id)
        return self.append(RevisionKind.EDIT, edit=edit_id, blob="blob")

    def evaluate(self, evaluation_id: str) -> None:
        """Carry out an evaluation of what is asked."""
        self.evaluations.take_up(evaluation_id)
        request = self.evaluations.get(evaluation_id).request
        revision = self.ledger.resolve(request.revision)
        self.evaluations.settle(evaluation_id, revision)
        active = [entry.edit or "" for entry in self.ledger.active(revision)]
        of_edits = [(fact, edit_id) for edit_id in active for fact in self.edits.get(edit_id).request.facts]
        facts = of_edits if request.facts == "active" else [(fact, None) for fact in request.facts]
        self.evaluations.complete(evaluation_id, evaluation_result(facts, revision))

    def append(self, kind: RevisionKind, **fields: Any) -> int:
        """Append an entry to the ledger, and serve it."""
        revision = len(self.ledger.entries())
        edit_id = fields.get("edit", "")
        ends = kind is RevisionKind.EDIT
        found = outcome(self.edits.glance(edit_id).fact_count) if ends else None
        self.ledger.append(
            entry(revision, kind, **fields),
            token=TOKEN,
            edit_id=edit_id if ends else "",
            edit_fields=applied_fields(revision, found) if found else None,
        )
        self.heartbeat()
        return revision

    def _serve(self) -> None:
        last = {self.keys.lane: "0", self.keys.moves: "0"}
        while not self._stop.is_set():
            for stream, entries in self.redis.xread(last, block=20) or ():
                for last_id, fields in entries:
                    last[stream] = last_id
                    request = LaneRequest.model_validate_json(fields["request"])
                    self._entries[request.id] = stream, last_id
                    self.asked.append(request)
                    answers = self.answer(request)
                    for answer in (answers,) if isinstance(answers, LaneAnswer) else answers or ():
                        self.send(request, answer)

    def send(self, request: LaneRequest, answer: LaneAnswer) -> None:
        with self.redis.pipeline(transaction=True) as pipeline:
            pipeline.xadd(request.answers, {"answer": answer.model_dump_json()}, maxlen=10_000)
            if answer.last and request.id in self._entries:
                pipeline.xdel(*self._entries.pop(request.id))
            pipeline.execute()

    def _listen(self) -> None:
        with self._channel as channel:
            while not self._stop.is_set():
                message = channel.get_message(timeout=0.02)
                if message is not None:
                    self.gone.append(message["data"])

    def answers(self, request: LaneRequest) -> list[LaneAnswer]:
        """What a worker might answer; `started`, then token by token and row by row, where a stream is asked for."""
        if isinstance(request.body, RollbackRequest):
            number = self.append(RevisionKind.ROLLBACK, to=request.body.to)
            return [LaneAnswer(id=request.id, revision=self.ledger.revision(number))]
        if isinstance(request.body, ActivationRequest):
            kind = RevisionKind.REAPPLY if request.body.active else RevisionKind.REVERT
            number = self.append(kind, edit=request.body.edit)
            return [LaneAnswer(id=request.id, revision=self.ledger.revision(number))]
        assert isinstance(request.body, DecodeRequest)  # exports are made by tests/service/export_stand.py
        decoded = self.decoded(request.body)
        answers = [LaneAnswer(id=request.id, decoded=decoded)]
        if request.body.stream:
            pieces = (LaneAnswer(id=request.id, pieces=found) for found in pieces_of(decoded.continuations))
            answers = [LaneAnswer(id=request.id, started=decoded.started), *pieces, *answers]
        return answers

    def decoded(self, body: DecodeRequest) -> Decoded:
        return decoded(body, self.ledger.resolve)


def queue_edit(edits: Edits, **changes: Any) -> Edit:
    """A queued edit."""
    edit_id, _ = edits.create(EditRequest.model_validate({**EIFFEL, **changes}))
    return edits.get(edit_id)


def batch_json(facts: int, **changes: Any) -> dict[str, Any]:
    """The body of a batch of so many different facts."""
    return {"facts": [{**EIFFEL, "prompt": f"{number}. {EIFFEL['prompt']}"} for number in range(facts)], **changes}
