"""What is an edit's own: its facts, its outcome, and whether it is in force; what all jobs do is tried elsewhere."""

import pytest
from redis import Redis

from service.contracts.edits import BatchRequest, EditRequest, EditStatus
from service.contracts.jobs import Progress
from service.contracts.revisions import RevisionKind
from service.edits import Edits, applied_fields
from service.errors import ProblemError
from service.keys import Keys
from service.ledger import Ledger
from tests.service.stand_in import TOKEN, batch_json, entry, outcome, queue_edit


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


def test_an_edit_that_is_not_in_force_is_seen_as_reverted(redis: Redis, keys: Keys) -> None:
    edits, ledger = Edits(redis, keys), Ledger(redis, keys)
    redis.set(keys.lease, TOKEN)
    ledger.append(entry(0, RevisionKind.BASE), token=TOKEN)
    queued, applied = queue_edit(edits), queue_edit(edits)
    edits.take_up(applied.id)
    made = entry(1, edit=applied.id, blob="b")
    ledger.append(made, token=TOKEN, edit_id=applied.id, edit_fields=applied_fields(1, outcome()))
    for status, is_active in ((EditStatus.APPLIED, lambda _: True), (EditStatus.REVERTED, lambda _: False)):
        for seen in (edits.get(applied.id, is_active), edits.glance(applied.id, is_active)):
            assert (seen.status, edits.glance_again(seen, is_active).status) == (status, status)
        assert [edit.id for edit in edits.page(None, 5, is_active, status)[0]] == [applied.id]
        assert edits.get(queued.id, is_active).status is EditStatus.QUEUED
