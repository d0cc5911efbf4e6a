"""Batches over HTTP, with a real worker: seen while they run, whole in the end, finished by the next worker."""

from collections.abc import Iterator
from typing import Any

import pytest

from service.contracts.edits import BatchRequest, EditStatus
from tests.conftest import _free_port
from tests.e2e.kit import FACT, Place, open_place

FACTS: list[dict[str, Any]] = [
    {**FACT, "neighborhood": ["Michael Jordan plays"]},
    {"prompt": "The Eiffel Tower is located in the city of", "subject": "The Eiffel Tower", "target_new": "Rome"},
    {"prompt": "Yes, the capital of Russia", "subject": "Russia", "target_new": "plays"},
    {"prompt": "The sport of Michael Jordan", "subject": "Michael Jordan", "target_new": "football"},
    {"prompt": "Tower of Paris", "subject": "Paris", "target_new": "Messi"},
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with open_place(tmp_path_factory.mktemp("batches"), _free_port) as opened:
        yield opened


@pytest.mark.parametrize("method", ["memit", "rome"])
def test_a_batch_from_the_request_to_the_rollback(place: Place, method: str) -> None:
    place.hire()
    before = place.checksums()
    answer = place.http.post("/edits", json={"facts": FACTS, "method": method})
    assert answer.status_code == 202
    queued = answer.json()
    assert answer.headers["Location"] == f"/edits/{queued['id']}"
    assert (queued["fact_count"], len(queued["request"]["facts"])) == (5, 3)
    states = list(place.client.edits.events(queued["id"]))
    assert states[-1].status is EditStatus.APPLIED, states[-1].problem
    edit = place.http.get(f"/edits/{queued['id']}").json()
    assert (edit["status"], edit["revision"], edit["fact_count"]) == ("applied", len(before), 5)
    assert [fact["prompt"] for fact in edit["request"]["facts"]] == [fact["prompt"] for fact in FACTS]
    outcome = edit["outcome"]
    assert len(outcome["facts"]) == 5
    assert outcome["metrics"] is None
    assert [shown["prompt"] for shown in outcome["generations"]] == [fact["prompt"] for fact in FACTS[:4]]
    for name in ("EA", "rewrite_acc"):
        each = [scores["after"]["summary"][name] for scores in outcome["facts"]]
        assert outcome["summary"]["after"][name] == pytest.approx(sum(each) / 5)
    assert place.client.revisions.page(limit=1).revisions[0].active == (queued["id"],)
    assert place.client.rollback(0).checksum == before[0] == place.client.model().checksum
    assert place.client.edits.get(queued["id"]).status is EditStatus.REVERTED


def test_the_fact_that_the_model_cannot_take_is_named(place: Place) -> None:
    place.hire()
    before = place.checksums()
    facts = [*FACTS[:2], {"prompt": "Paris " * 150 + "Messi plays", "subject": "Messi", "target_new": "football"}]
    answer = place.http.post("/edits", json={"facts": facts, "method": "memit"})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["facts[2].prompt"]
    assert place.checksums() == before


@pytest.mark.parametrize("method", ["memit", "rome"])
def test_a_batch_whose_worker_is_killed_is_finished_by_the_next_one(place: Place, method: str) -> None:
    """The first facts of a sequential one too: it is all or nothing, and to the last bit what it would have been."""
    worker = place.hire()
    place.client.rollback(0)
    before = place.checksums()
    options = {"method": method, "hparams": {"v_num_grad_steps": 300 if method == "memit" else 80, "v_lr": 0.001}}
    edit = place.submit_batch(FACTS, **options)
    place.at_value_step(edit.id, share=0.3)
    worker.kill()
    assert place.checksums() == before
    place.hire()
    ended = place.ended(edit.id)
    assert (ended.status, ended.attempts, ended.revision) == (EditStatus.APPLIED, 2, len(before))
    assert place.checksums()[:-1] == before
    assert ended.outcome is not None
    assert len(ended.outcome.facts) == len(FACTS)
    request = place.client.edits.get(edit.id).request
    assert isinstance(request, BatchRequest)
    assert len(request.facts) == len(FACTS)
    place.client.rollback(0)
    again = place.ended(place.submit_batch(FACTS, **options).id)
    assert again.attempts == 1
    checksums = place.checksums()
    assert checksums[again.revision or 0] == checksums[len(before)] != checksums[0]
