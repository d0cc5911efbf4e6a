"""Requirements over HTTP: what cannot be checked is refused at once, by its field; a drifted head takes no edit."""

from typing import Any

import httpx
import pytest

from service.contracts.model import Ceilings
from service.contracts.revisions import RevisionKind
from service.contracts.scores import Drift
from tests.service.stand_in import EIFFEL, StandIn, batch_json, queue_edit

PARAPHRASES = "needs prompts to be checked on; give paraphrases"


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("body", "field", "detail"),
    [
        ({**EIFFEL, "require": {"generality": 0.5}}, "require.generality", PARAPHRASES),
        (batch_json(3, require={"generality": True}), "require.generality", PARAPHRASES),
        ({**EIFFEL, "require": {"locality": 1}}, "require.locality", "give neighborhood"),
        ({**EIFFEL, "require": {"efficacy": 1.01}}, "require.efficacy", "less than or equal to 1"),
        ({**EIFFEL, "require": {"efficacy": False}}, "require.efficacy", "leave it out to require nothing"),
        ({**EIFFEL, "require": {"max_perplexity_ratio": 0}}, "require.max_perplexity_ratio", "greater than 0"),
        ({**EIFFEL, "require": {"fluency": 1}}, "require.fluency", "is not a known field"),
    ],
)
def test_what_cannot_be_required(http: httpx.Client, body: dict[str, Any], field: str, detail: str) -> None:
    answer = http.post("/edits", json=body)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == field
    assert detail in error["detail"]
    assert http.get("/edits").json()["edits"] == []


def test_what_is_required_is_kept_with_the_edit(http: httpx.Client, worker: StandIn) -> None:
    require = {"efficacy": True, "generality": 0.5, "max_perplexity_ratio": 1.05}
    edit = http.post("/edits", json={**EIFFEL, "paraphrases": ["a"], "require": require, "dry_run": True}).json()
    assert worker.edits.get(edit["id"]).request.dry_run
    shown = http.get(f"/edits/{edit['id']}").json()["request"]
    assert shown["require"] == {"efficacy": 1, "generality": 0.5, "locality": None, "max_perplexity_ratio": 1.05}


def test_a_head_that_has_drifted_too_far_takes_no_edit(http: httpx.Client, worker: StandIn) -> None:
    worker.publish(ceilings=Ceilings(perplexity_ratio=1.5, kl=0.1, norm=0.5))
    edit = queue_edit(worker.edits)
    worker.edits.take_up(edit.id)
    drift = Drift(norms={5: 0.2, 6: 0.7}, perplexity_ratio=1.6, kl=0.05)
    worker.append(RevisionKind.EDIT, edit=edit.id, blob="blob", drift=drift)
    answer = http.post("/edits", json=EIFFEL)
    assert answer.status_code == 409
    assert answer.json()["type"].endswith(":drift-ceiling")
    assert "perplexity_ratio is 1.6, allowed is 1.5; norm is 0.7, allowed is 0.5" in answer.json()["detail"]
    assert len(http.get("/edits").json()["edits"]) == 1
    worker.append(RevisionKind.ROLLBACK, to=0)
    assert http.post("/edits", json=EIFFEL).status_code == 202
