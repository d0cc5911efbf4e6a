"""Batches over HTTP: accepted, refused by the fact at fault, shown cut and whole."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.contracts.jobs import Progress
from service.contracts.revisions import RevisionKind
from tests.service.stand_in import EIFFEL, StandIn, batch_json
from tests.service.watching import events

Contents = Callable[[], dict[str, bytes | None]]


@pytest.mark.usefixtures("worker")
def test_a_batch_of_a_thousand_facts_is_accepted(http: httpx.Client, rung: Callable[[], list[str]]) -> None:
    prompts = [f"{number} {'word ' * 20}" for number in range(12)]
    facts = [{**fact, "paraphrases": prompts[:2], "neighborhood": prompts[2:]} for fact in batch_json(1000)["facts"]]
    answer = http.post("/edits", json={"facts": facts, "hparams": {"v_lr": 0.1}})
    edit = answer.json()
    assert answer.status_code == 202
    assert len(answer.request.content) > 1_300_000
    assert (edit["fact_count"], len(edit["request"]["facts"])) == (1000, 3)
    assert rung() == [edit["id"]]
    whole = http.get(f"/edits/{edit['id']}").json()["request"]
    assert [fact["prompt"] for fact in whole["facts"]] == [fact["prompt"] for fact in facts]
    assert whole["hparams"] == {"v_lr": 0.1}


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"subject": "Big Ben"}, "facts[12].subject", "must occur in the prompt"),
        ({"paraphrases": ["a", "word " * 40]}, "facts[12].paraphrases[1]", "shorten it"),
        ({"prompt": f"The Eiffel Tower {'word ' * 40}is"}, "facts[12].prompt", "shorten it"),
        ({"neighborhood": ["\0"]}, "facts[12].neighborhood[0]", "NUL"),
        ({"method": "rome"}, "facts[12].method", "is not a known field"),
        ({"prompt": "3. " + EIFFEL["prompt"], "target_new": "Berlin"}, "facts[12].target_new", "contradicts facts[3]."),
    ],
)
def test_a_bad_fact_is_named_by_its_place(
    http: httpx.Client, contents: Contents, changes: dict[str, Any], field: str, words: str
) -> None:
    before = contents()
    body = batch_json(15)
    body["facts"][12] |= changes
    answer = http.post("/edits", json=body)
    problem = answer.json()
    assert answer.status_code == 422
    assert [error["field"] for error in problem["errors"]] == [field]
    assert words in problem["errors"][0]["detail"]
    assert field in problem["detail"]
    assert contents() == before


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({**EIFFEL, "facts": [EIFFEL]}, "prompt", "is not a known field"),
        ({"facts": []}, "facts", "must not be empty"),
        ({"facts": EIFFEL}, "facts", "must be a list"),
        ({"facts": [EIFFEL, 3]}, "facts[1]", "must be an object"),
        ({"facts": [{}]}, "facts[0].prompt", "is required"),
        ({"facts": [EIFFEL], "hparams": 3}, "hparams", "dictionary"),
        ({"facts": [EIFFEL] * 10_001}, "facts", "at most 10000"),
        ([EIFFEL], "body", "JSON object"),
    ],
)
def test_a_bad_batch_is_refused(http: httpx.Client, contents: Contents, body: Any, field: str, words: str) -> None:
    answer = http.post("/edits", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field
    assert words in answer.json()["errors"][0]["detail"]
    assert not any("EditRequest" in error["field"] for error in answer.json()["errors"])
    assert contents() == {}


def test_only_one_edit_has_all_facts_of_a_batch(http: httpx.Client, worker: StandIn) -> None:
    edit_id = http.post("/edits", json=batch_json(20)).json()["id"]
    with http.stream("GET", f"/edits/{edit_id}/events") as response:
        stream = events(response)
        seen = [next(stream)]
        worker.edits.take_up(edit_id)
        worker.edits.report(edit_id, Progress(phase="value", step=3, steps=20))
        seen.append(next(stream))
        worker.append(RevisionKind.EDIT, edit=edit_id, blob="blob")
        seen += stream
    listed = http.get("/edits").json()["edits"][0]
    for edit in (*(edit for _, edit in seen), listed):
        assert (edit["fact_count"], len(edit["request"]["facts"])) == (20, 3)
    assert seen[-1][0] == "applied"
    for edit in (seen[-1][1], listed):
        assert len(edit["outcome"]["facts"]) == 3
        assert edit["outcome"]["metrics"] is None
    whole = http.get(f"/edits/{edit_id}").json()
    assert (len(whole["request"]["facts"]), len(whole["outcome"]["facts"])) == (20, 20)


def test_cancel_a_batch(http: httpx.Client) -> None:
    edit_id = http.post("/edits", json=batch_json(20)).json()["id"]
    edit = http.delete(f"/edits/{edit_id}").json()
    assert (edit["status"], edit["fact_count"], len(edit["request"]["facts"])) == ("cancelled", 20, 3)
