"""The ledger against a plain model of it: a list of states."""

import threading
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from redis import Redis

from service.contracts.edits import EditStatus
from service.contracts.revisions import Entry, RevisionKind
from service.edits import Edits, applied_fields
from service.errors import ProblemError
from service.keys import Keys
from service.ledger import EditEndedError, FencedError, HeadMovedError, Ledger
from tests.service.stand_in import TOKEN, entry, outcome, queue_edit

FEW = settings(max_examples=25, stateful_step_count=20, deadline=None, database=None)


def append(ledger: Ledger, made: Entry, token: str = TOKEN) -> None:
    """Append an entry and end its edit, as the worker does."""
    ends = made.edit if made.kind is RevisionKind.EDIT else None
    fields = applied_fields(made.revision, outcome()) if ends else None
    ledger.append(made, token=token, edit_id=ends or "", edit_fields=fields)


class LedgerMachine(RuleBasedStateMachine):
    """Appends edits and rollbacks, right and wrong ones; `states[r]` are the edits in force at r."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        super().__init__()
        self.redis: Any = redis
        self.redis.flushall()
        self.redis.set(keys.lease, TOKEN)
        self.keys = keys
        self.edits = Edits(redis, keys)
        self.ledger = Ledger(redis, keys)
        append(self.ledger, entry(0, RevisionKind.BASE))
        self.states: list[tuple[str, ...]] = [()]
        self.committed: list[tuple[str, int]] = []

    def running_edit(self) -> str:
        edit_id = queue_edit(self.edits).id
        assert self.edits.take_up(edit_id)
        return edit_id

    @rule()
    def edit(self) -> None:
        edit_id = self.running_edit()
        append(self.ledger, entry(len(self.states), edit=edit_id))
        self.committed.append((edit_id, len(self.states)))
        self.states.append((*self.states[-1], edit_id))
        assert self.edits.get(edit_id).status is EditStatus.APPLIED
        assert edit_id not in self.edits.pending()

    @rule(data=st.data())
    def rollback(self, data: st.DataObject) -> None:
        to = data.draw(st.integers(0, len(self.states) - 1))
        append(self.ledger, entry(len(self.states), RevisionKind.ROLLBACK, to=to))
        self.states.append(self.states[to])

    @precondition(lambda self: self.states[-1])
    @rule(data=st.data())
    def revert(self, data: st.DataObject) -> None:
        active = self.states[-1]
        edit_id = active[data.draw(st.integers(0, len(active) - 1))]
        append(self.ledger, entry(len(self.states), RevisionKind.REVERT, edit=edit_id))
        self.states.append(tuple(other for other in active if other != edit_id))
        assert self.edits.get(edit_id, self.ledger.active_edits().__contains__).status is EditStatus.REVERTED

    @precondition(lambda self: len(self.committed) > len(self.states[-1]))
    @rule(data=st.data())
    def reapply(self, data: st.DataObject) -> None:
        reverted = [edit_id for edit_id, _ in self.committed if edit_id not in self.states[-1]]
        edit_id = reverted[data.draw(st.integers(0, len(reverted) - 1))]
        append(self.ledger, entry(len(self.states), RevisionKind.REAPPLY, edit=edit_id))
        active = {*self.states[-1], edit_id}
        self.states.append(tuple(other for other, _ in self.committed if other in active))

    @rule(data=st.data())
    def edit_of_another_head(self, data: st.DataObject) -> None:
        revision = data.draw(st.integers(0, len(self.states) + 3).filter(lambda r: r != len(self.states)))
        edit_id = self.running_edit()
        with pytest.raises(HeadMovedError):
            append(self.ledger, entry(revision, edit=edit_id))
        assert self.edits.get(edit_id).status is EditStatus.RUNNING

    @rule(token=st.sampled_from(["", "0", "2"]))
    def edit_without_the_lease(self, token: str) -> None:
        edit_id = self.running_edit()
        with pytest.raises(FencedError):
            append(self.ledger, entry(len(self.states), edit=edit_id), token)
        assert self.edits.get(edit_id).status is EditStatus.RUNNING

    @rule()
    def edit_after_the_lease_was_lost(self) -> None:
        edit_id = self.running_edit()
        self.redis.delete(self.keys.lease)
        with pytest.raises(FencedError):
            append(self.ledger, entry(len(self.states), edit=edit_id))
        self.redis.set(self.keys.lease, TOKEN)

    @rule()
    def edit_that_was_cancelled(self) -> None:
        edit_id = self.running_edit()
        self.edits.cancel(edit_id)
        with pytest.raises(EditEndedError):
            append(self.ledger, entry(len(self.states), edit=edit_id))

    @precondition(lambda self: any(self.states))
    @rule(data=st.data())
    def edit_that_was_applied(self, data: st.DataObject) -> None:
        applied = [state[-1] for state in self.states if state]
        # By number, because the ids differ at every run.
        edit_id = applied[data.draw(st.integers(0, len(applied) - 1))]
        with pytest.raises(EditEndedError):
            append(self.ledger, entry(len(self.states), edit=edit_id))

    @invariant()
    def history_is_the_model(self) -> None:
        for ledger in (self.ledger, Ledger(self.redis, self.keys)):
            assert ledger.head() == len(self.states) - 1
            assert [made.revision for made in ledger.entries()] == list(range(len(self.states)))
            for revision, state in enumerate(self.states):
                shown = ledger.revision(revision)
                assert (shown.active, shown.active_count) == (state, len(state))
                for most in (1, 2, 3):
                    last = ledger.lines().active(revision, most)
                    assert tuple(entry.edit for entry in last) == state[-most:]
            assert ledger.active_edits() == frozenset(self.states[-1])

    @invariant()
    def what_was_computed_with_an_edit_is_known(self) -> None:
        head = len(self.states) - 1
        for edit_id, _ in self.committed:
            with_it = [
                other
                for other, made in self.committed
                if other != edit_id and other in self.states[-1] and edit_id in self.states[made - 1]
            ]
            assert self.ledger.lines().computed_with(edit_id, head) == tuple(with_it)

    @invariant()
    def pages_are_the_history_backwards(self) -> None:
        before, seen = None, []
        while True:
            page = self.ledger.page(before, 3)
            seen += [revision.revision for revision in page.revisions]
            before = page.next
            if before is None:
                break
        assert seen == list(range(len(self.states) - 1, -1, -1))


def test_any_history(redis: Redis, keys: Keys) -> None:
    class Machine(LedgerMachine):
        def __init__(self) -> None:
            super().__init__(redis, keys)

    run_state_machine_as_test(Machine, settings=FEW)


def test_an_empty_ledger(redis: Redis, keys: Keys) -> None:
    ledger = Ledger(redis, keys)
    assert ledger.head() is None
    assert ledger.entries() == ()
    assert ledger.active_edits() == frozenset()
    assert ledger.page(None, 10).revision is None
    assert ledger.resolve("base") == 0
    with pytest.raises(ProblemError, match="No worker has started"):
        ledger.resolve("head")
    with pytest.raises(ProblemError, match="There are none yet"):
        ledger.revision(0)


def test_names_of_revisions(redis: Redis, keys: Keys) -> None:
    ledger = Ledger(redis, keys)
    redis.set(keys.lease, TOKEN)
    append(ledger, entry(0, RevisionKind.BASE))
    append(ledger, entry(1, RevisionKind.ROLLBACK, to=0))
    assert [ledger.resolve(name) for name in ("base", "head", 0, 1)] == [0, 1, 0, 1]
    with pytest.raises(ProblemError, match="Revisions r0 to r1 exist") as raised:
        ledger.resolve(2)
    assert raised.value.problem.status == 404


def test_of_two_appends_at_once_one_wins(redis: Redis, keys: Keys) -> None:
    redis.set(keys.lease, TOKEN)
    append(Ledger(redis, keys), entry(0, RevisionKind.BASE))
    won, lost = [], []
    start = threading.Barrier(8)

    def race() -> None:
        ledger = Ledger(redis, keys)
        start.wait()
        try:
            append(ledger, entry(1, RevisionKind.ROLLBACK, to=0))
            won.append(1)
        except HeadMovedError:
            lost.append(1)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    assert Ledger(redis, keys).head() == 1


def test_one_ledger_read_by_many_threads(redis: Redis, keys: Keys) -> None:
    redis.set(keys.lease, TOKEN)
    writer, reader = Ledger(redis, keys), Ledger(redis, keys)
    append(writer, entry(0, RevisionKind.BASE))
    done = threading.Event()
    wrong: list[list[int]] = []

    def read() -> None:
        while not done.is_set():
            numbers = [made.revision for made in reader.entries()]
            if numbers != list(range(len(numbers))):
                wrong.append(numbers)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for revision in range(1, 60):
        append(writer, entry(revision, RevisionKind.ROLLBACK, to=0))
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(reader.entries()) == 60


def test_a_ledger_that_was_emptied_is_read_anew(redis: Redis, keys: Keys) -> None:
    redis.set(keys.lease, TOKEN)
    ledger = Ledger(redis, keys)
    append(ledger, entry(0, RevisionKind.BASE))
    assert len(ledger.entries()) == 1
    redis.delete(keys.ledger)
    assert ledger.entries() == ()


def test_an_entry_that_is_older_than_keys_is_read(redis: Redis, keys: Keys) -> None:
    old = entry(0, RevisionKind.BASE).model_dump_json(exclude={"by", "request_id"})
    redis.xadd(keys.ledger, {"entry": old}, id="0-1")
    found = Ledger(redis, keys).revision(0)
    assert (found.by, found.request_id) == (None, None)
