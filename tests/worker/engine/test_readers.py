"""Every request of the stream gets its result or its problem, and the head they speak of is the same for all."""

import pytest

from service.contracts.lane import DecodeRequest
from service.contracts.revisions import ActivationRequest, RevisionKind, RollbackRequest
from tests.worker.engine.kit import Boot, live_checksum, same, timeless
from tests.worker.engine.reading_desk import PROMPT, ReadingDesk, asking, refusal, request_of, whole
from worker.errors import LeaseLostError, StorageError


def test_before_and_after_are_what_each_revision_says(reading: ReadingDesk) -> None:
    prompts = (PROMPT, "The")
    answer = reading.decoded(asking(*prompts, revisions=("r1", "head")))
    assert answer.started.revisions == (1, 2)
    assert answer.started.prompts == prompts
    expected = [reading.alone(prompt, revision) for prompt in prompts for revision in (1, 2)]
    assert all(map(same, answer.continuations, expected))
    assert len({said.text for said in expected}) > 2
    assert answer.probabilities == ()
    assert answer.seconds >= max(said.seconds for said in answer.continuations) > 0


def test_equal_revisions_say_the_same(reading: ReadingDesk) -> None:
    before, after = reading.decoded(asking(revisions=("r1", 1))).continuations
    assert timeless(before) == timeless(after)


def test_one_revision_alone_may_be_asked(reading: ReadingDesk) -> None:
    (said,) = reading.decoded(asking(revisions=("head",))).continuations
    assert same(said, reading.alone(PROMPT, 2))


def test_nothing_to_do_is_said(reading: ReadingDesk) -> None:
    assert not reading.readers.step()
    reading.take_up(asking(max_new_tokens=3))
    assert [reading.readers.step() for _ in range(4)] == [True, True, False, False]


def test_the_head_moves_for_those_who_ask_later(reading: ReadingDesk) -> None:
    """A rollback between two comparisons of one turn: each sees the head of its own moment."""
    first, rollback, second = reading.ask(asking(), RollbackRequest(to=0), asking(revisions=("r2", "head")))
    assert rollback.revision is not None
    assert whole(first).started.revisions == (0, 2)
    assert whole(second).started.revisions == (2, 3)
    assert (rollback.revision.revision, rollback.revision.kind) == (3, RevisionKind.ROLLBACK)
    before, after = whole(first).continuations
    then, now = whole(second).continuations
    assert before.tokens == now.tokens != after.tokens == then.tokens
    assert live_checksum(reading.stand.loaded) == reading.stand.resident.base_checksum


def test_a_move_of_the_head_is_answered_at_once(reading: ReadingDesk) -> None:
    """Before anything else is computed, and once."""
    name, move = reading.take_up(asking(), RollbackRequest(to=1))
    assert name not in reading.heard
    assert [answer is not None and answer.revision is not None for answer in reading.heard[move]] == [True]
    reading.finish()
    assert len(reading.heard[move]) == len(reading.heard[name]) == 1


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (asking(revisions=("base", "r3")), 404, "no revision r3"),
        (asking(revisions=(7, "head")), 404, "no revision r7"),
        (RollbackRequest(to=3), 404, "no revision r3"),
        (ActivationRequest(edit="nobody", active=False), 409, "not in force"),
        (asking("The " * 300), 422, "prompt[0]"),
        (asking("ok", PROMPT, max_new_tokens=120), 422, "prompt[1]"),
    ],
)
def test_a_wrong_request_gets_its_problem_and_hinders_nobody(
    reading: ReadingDesk, body: DecodeRequest | RollbackRequest | ActivationRequest, status: int, says: str
) -> None:
    before = reading.stand.state()
    good, bad, also_good = reading.ask(asking(), body, asking(revisions=("base", "r1")))
    assert refusal(bad).status == status
    assert says in refusal(bad).detail
    assert all(map(same, whole(good).continuations, [reading.alone(PROMPT, revision) for revision in (0, 2)]))
    assert all(map(same, whole(also_good).continuations, [reading.alone(PROMPT, revision) for revision in (0, 1)]))
    assert reading.stand.state() == before


def test_a_request_that_comes_back_is_answered_once(reading: ReadingDesk) -> None:
    """This worker was silent for so long that another had taken it, and died with it in its turn."""
    request = request_of(asking(stream=True))
    reading.take_up(request)
    reading.steps(3)
    rows = list(reading.rows)
    reading.take_up(request)
    reading.steps(1)
    assert list(map(id, reading.rows)) == list(map(id, rows))
    reading.finish()
    assert reading.last(request.id).decoded is not None
    assert [answer.started is not None for answer in reading.heard[request.id] if answer is not None].count(True) == 1


def test_a_damaged_old_revision_is_a_problem_for_those_who_ask_for_it_alone(reading: ReadingDesk, boot: Boot) -> None:
    """The head does not depend on it, so the worker goes on."""
    reading.stand.history.rollback(0)
    again = ReadingDesk(boot("gpt2"), commits=0)
    blob = again.stand.ledger.entries()[1].blob
    (again.stand.blobs_folder / f"{blob}.safetensors").write_bytes(b"not a blob")
    before = again.stand.state()
    good, old, rollback = again.ask(asking(), asking(revisions=("base", "r1")), RollbackRequest(to=2))
    assert whole(good).started.revisions == (0, 3)
    for given in (old, rollback):
        assert refusal(given).status == 500
        assert str(blob) in refusal(given).detail
    assert again.stand.state() == before


def test_a_storage_that_does_not_answer_is_a_problem_for_those_who_need_it(
    reading: ReadingDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise StorageError(503, "storage-unavailable", "The storage does not answer.")

    reading.stand.history.forget()
    reading.stand.history._deltas.clear()
    monkeypatch.setattr(reading.stand.history._blobs, "get", fail)
    good, old = reading.ask(asking(), asking(revisions=("r1",)))
    assert refusal(old).status == 503
    assert whole(good).started.revisions == (0, 2)


def test_a_lost_lease_ends_the_worker(reading: ReadingDesk) -> None:
    reading.stand.redis.set(reading.stand.keys.lease, "9:another")
    with pytest.raises(LeaseLostError):
        reading.ask(RollbackRequest(to=0))


@pytest.mark.parametrize("kind", ["rollback", "revert", "reapply"])
def test_a_move_that_a_dead_leader_has_made_is_not_made_again(reading: ReadingDesk, boot: Boot, kind: str) -> None:
    """The next leader is given the same request, and finds it in the ledger."""
    edit = str(reading.stand.ledger.entries()[1].edit)
    if kind == "reapply":
        reading.stand.history.revert(edit)
    body = RollbackRequest(to=1) if kind == "rollback" else ActivationRequest(edit=edit, active=kind == "reapply")
    (given,) = reading.ask(body)
    assert given.revision is not None
    assert given.revision.request is not None
    before = reading.stand.state()
    heir = ReadingDesk(boot("gpt2"), commits=0)
    (again,) = heir.ask(request_of(body, given.revision.request))
    assert again == given
    assert heir.stand.state() == before
    (another,) = heir.ask(RollbackRequest(to=1))
    assert another.revision is not None
    assert another.revision.revision == given.revision.revision + 1
