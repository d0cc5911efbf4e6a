"""The edit documents against a plain model of them: a status for each, and the order in which they came."""

import threading
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from redis import Redis

from service.contracts.edits import BatchRequest, EditRequest, EditStatus
from service.contracts.jobs import Progress
from service.contracts.revisions import RevisionKind
from service.edits import Edits, applied_fields
from service.errors import ProblemError, invalid
from service.keys import Keys
from service.ledger import Ledger
from tests.service.stand_in import EIFFEL, TOKEN, batch_json, entry, outcome, queue_edit

FEW = settings(max_examples=25, stateful_step_count=25, deadline=None, database=None)
PENDING = (EditStatus.QUEUED, EditStatus.RUNNING)


class EditsMachine(RuleBasedStateMachine):
    """Moves edits about; `states` has them in the order in which they were created."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        super().__init__()
        client: Any = redis
        client.flushall()
        self.edits = Edits(redis, keys)
        self.states: dict[str, EditStatus] = {}
        self.attempts: dict[str, int] = {}
        self.cancelled: set[str] = set()

    def any_edit(self, data: st.DataObject) -> str:
        # By number, because the ids differ at every run.
        return list(self.states)[data.draw(st.integers(0, len(self.states) - 1))]

    @rule(target_new=st.sampled_from(["Rome", "Berlin"]))
    def create(self, target_new: str) -> None:
        edit = queue_edit(self.edits, target_new=target_new)
        assert edit.id not in self.states
        self.states[edit.id] = EditStatus.QUEUED
        self.attempts[edit.id] = 0

    @precondition(lambda self: self.states)
    @rule(data=st.data())
    def take_up(self, data: st.DataObject) -> None:
        edit_id = self.any_edit(data)
        possible = self.states[edit_id] in PENDING
        assert self.edits.take_up(edit_id) is possible
        if possible:
            self.states[edit_id] = EditStatus.RUNNING
            self.attempts[edit_id] += 1

    @precondition(lambda self: self.states)
    @rule(data=st.data())
    def hand_back(self, data: st.DataObject) -> None:
        edit_id = self.any_edit(data)
        possible = self.states[edit_id] is EditStatus.RUNNING
        assert self.edits.hand_back(edit_id) is possible
        if possible:
            self.states[edit_id] = EditStatus.QUEUED
            self.attempts[edit_id] -= 1

    @precondition(lambda self: self.states)
    @rule(data=st.data(), status=st.sampled_from([EditStatus.FAILED, EditStatus.REJECTED, EditStatus.CANCELLED]))
    def end(self, data: st.DataObject, status: EditStatus) -> None:
        edit_id = self.any_edit(data)
        possible = self.states[edit_id] in PENDING
        assert self.edits.end(edit_id, status, invalid("subject", "is odd").problem) is possible
        if possible:
            self.states[edit_id] = status

    @precondition(lambda self: self.states)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        edit_id = self.any_edit(data)
        match self.states[edit_id]:
            case EditStatus.QUEUED:
                self.edits.cancel(edit_id)
                self.states[edit_id] = EditStatus.CANCELLED
            case EditStatus.RUNNING:
                self.edits.cancel(edit_id)
                self.cancelled.add(edit_id)
            case _:
                with pytest.raises(ProblemError) as raised:
                    self.edits.cancel(edit_id)
                assert raised.value.problem.status == 409

    @invariant()
    def documents_are_the_model(self) -> None:
        waiting = [edit_id for edit_id, status in self.states.items() if status in PENDING]
        assert self.edits.pending() == waiting
        for edit_id, status in self.states.items():
            edit = self.edits.get(edit_id)
            assert (edit.status, edit.attempts) == (status, self.attempts[edit_id])
            assert edit.position == (waiting.index(edit_id) if edit_id in waiting else None)
            assert (edit.ended_at is None) is not status.ended
            assert self.edits.cancel_requested(edit_id) is (edit_id in self.cancelled)

    @invariant()
    def pages_are_all_edits_backwards(self) -> None:
        newest_first = list(reversed(self.states))
        assert self.all_pages(None) == newest_first
        queued = [edit_id for edit_id in newest_first if self.states[edit_id] is EditStatus.QUEUED]
        assert self.all_pages(EditStatus.QUEUED) == queued

    def all_pages(self, status: EditStatus | None) -> list[str]:
        before, seen = None, []
        while True:
            page, before = self.edits.page(before, 3, lambda _: True, status)
            assert len(page) <= 3
            seen += [edit.id for edit in page]
            if before is None:
                return seen


def test_any_life(redis: Redis, keys: Keys) -> None:
    class Machine(EditsMachine):
        def __init__(self) -> None:
            super().__init__(redis, keys)

    run_state_machine_as_test(Machine, settings=FEW)


def test_what_was_asked_is_what_is_stored(redis: Redis, keys: Keys) -> None:
    request = EditRequest.model_validate(
        {
            "prompt": "Прага — столица {страны}\n\t😀",
            "subject": "Прага",
            "target_new": "Италии",
            "target_true": "Чехии",
            "paraphrases": ["a", "b"],
            "neighborhood": ["c"],
            "hparams": {"v_lr": 0.5, "layers": [3, 4]},
            "base_revision": "r2",
        }
    )
    edits = Edits(redis, keys)
    edit_id, new = edits.create(request)
    assert new
    assert edits.get(edit_id).request == request


@pytest.mark.parametrize("facts", [1, 2, 3, 4, 50])
def test_a_batch_is_whole_or_at_a_glance(redis: Redis, keys: Keys, facts: int) -> None:
    edits, ledger = Edits(redis, keys), Ledger(redis, keys)
    request = BatchRequest.model_validate(batch_json(facts, hparams={"v_lr": 0.1}))
    edit_id, _ = edits.create(request)
    whole, glance = edits.get(edit_id), edits.glance(edit_id)
    assert whole.request == request
    assert glance.request == request.model_copy(update={"facts": request.facts[:3]})
    edits.take_up(edit_id)
    edits.report(edit_id, Progress(phase="value", step=1, steps=25))
    redis.set(keys.lease, TOKEN)
    ledger.append(entry(0, RevisionKind.BASE), token=TOKEN)
    assert edits.glance_again(glance) == edits.glance(edit_id)
    made, found = entry(1, edit=edit_id, blob="b"), outcome(facts)
    ledger.append(made, token=TOKEN, edit_id=edit_id, edit_fields=applied_fields(1, found))
    whole, glance = edits.get(edit_id), edits.glance(edit_id)
    assert whole.outcome == found
    assert glance.outcome == found.model_copy(update={"facts": found.facts[:3]})
    assert whole.fact_count == glance.fact_count == facts
    assert edits.page(None, 5, lambda _: True)[0] == [glance]
    assert edits.glance_again(whole) == whole.model_copy(update={"outcome": glance.outcome})


def test_a_glance_does_not_grow_with_a_batch(redis: Redis, keys: Keys) -> None:
    edits = Edits(redis, keys)
    edit_id, _ = edits.create(BatchRequest.model_validate(batch_json(5000)))
    client: Any = redis
    client.config_resetstat()
    before = client.info("stats")["total_net_output_bytes"]
    edits.glance_again(edits.glance(edit_id))
    edits.page(None, 5, lambda _: True)
    read = client.info("stats")["total_net_output_bytes"] - before
    assert read < 20_000 < len(client.hget(keys.edit(edit_id), "request_facts"))


def test_the_same_batch_is_the_same_body_to_its_last_fact(redis: Redis, keys: Keys) -> None:
    edits = Edits(redis, keys)
    body = batch_json(50)
    request = BatchRequest.model_validate(body)
    last = {**body["facts"][-1], "target_new": "Berlin"}
    other = BatchRequest.model_validate({"facts": [*body["facts"][:-1], last]})
    edit_id, _ = edits.create(request, "k")
    assert edits.create(BatchRequest.model_validate({**body, "method": "rome"}), "k") == (edit_id, False)
    for ask in (lambda: edits.create(other, "k"), lambda: edits.known(other, "k")):
        with pytest.raises(ProblemError, match="Use a new key"):
            ask()


def test_an_idempotency_key_is_one_edit(redis: Redis, keys: Keys) -> None:
    edits = Edits(redis, keys)
    request = EditRequest.model_validate(EIFFEL)
    other = EditRequest.model_validate({**EIFFEL, "target_new": "Berlin"})
    assert edits.known(request, "k") is None
    made: list[tuple[str, bool]] = []
    threads = [threading.Thread(target=lambda: made.append(edits.create(request, "k"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({edit_id for edit_id, _ in made}) == 1
    assert sorted(new for _, new in made) == [False] * 7 + [True]
    assert edits.known(request, "k") == made[0][0]
    assert edits.known(request, "another") is None
    for ask in (lambda: edits.create(other, "k"), lambda: edits.known(other, "k")):
        with pytest.raises(ProblemError, match="Use a new key") as raised:
            ask()
        assert raised.value.problem.status == 409
    assert len(edits.pending()) == 1


def test_progress_is_announced_and_forgotten(redis: Redis, keys: Keys) -> None:
    edits = Edits(redis, keys)
    edit_id = queue_edit(edits).id
    client: Any = redis
    with client.pubsub() as listener:
        listener.subscribe(keys.edit_channel(edit_id))
        listener.get_message(timeout=60)
        edits.take_up(edit_id)
        edits.report(edit_id, Progress(phase="value", step=1, steps=25, loss=2.5))
        assert edits.get(edit_id).progress == Progress(phase="value", step=1, steps=25, loss=2.5)
        edits.hand_back(edit_id)
        assert edits.get(edit_id).progress is None
        edits.cancel(edit_id)
        heard = [listener.get_message(timeout=60)["data"] for _ in range(4)]
    assert heard == ["running", "progress", "queued", "cancel"]


def test_an_edit_that_is_not_there(redis: Redis, keys: Keys) -> None:
    edits = Edits(redis, keys)
    nobody = "0" * 16
    for ask in (edits.get, edits.glance, edits.cancel):
        with pytest.raises(ProblemError, match="GET /edits lists all edits"):
            ask(nobody)
    assert edits.take_up(nobody) is False
    assert edits.end(nobody, EditStatus.FAILED) is False
    assert edits.cancel_requested(nobody) is False
    client: Any = redis
    assert client.keys("*") == []
