"""The commands about revisions, against the running API."""

import httpx
import pytest

from service.contracts.revisions import Reverted, Revision, RevisionKind, RevisionPage
from service.contracts.scores import Drift
from tests.service.conftest import Run
from tests.service.stand_in import StandIn, queue_edit

DRIFT = Drift(norms={5: 0.0123, 6: 0.002}, perplexity_ratio=1.0421, kl=0.0312)


def test_log_shows_what_made_each_revision_and_its_drift(ask: Run, worker: StandIn) -> None:
    edit = queue_edit(worker.edits)
    worker.edits.take_up(edit.id)
    worker.append(RevisionKind.EDIT, edit=edit.id, blob="blob", drift=DRIFT)
    worker.append(RevisionKind.ROLLBACK, to=0)
    code, output, _ = ask("log")
    lines = output.splitlines()
    assert code == 0
    assert lines[1].split()[:5] == ["r2", "rollback", "to", "r0", "0"]
    assert f"edit {edit.id}" in lines[2]
    assert "1.23%" in lines[2]
    assert "x 1.042" in lines[2]
    assert "0.0312" in lines[2]
    assert lines[3].split()[:2] == ["r0", "base"]
    assert "older" not in output


def test_log_and_show_name_the_key(ask: Run, worker: StandIn) -> None:
    worker.append(RevisionKind.ROLLBACK, to=0, by="ci", request_id="abc123")
    assert ask("log")[1].splitlines()[1].split()[-1] == "ci"
    assert "abc123" in ask("show", "r1")[1]
    assert "request" not in ask("show", "r0")[1]


def test_log_pages(ask: Run, worker: StandIn) -> None:
    for _ in range(3):
        worker.append(RevisionKind.ROLLBACK, to=0)
    _, output, _ = ask("log", "--limit", "2")
    assert "palimpsest log --before 2" in output
    _, output, _ = ask("log", "--before", "2", "--json")
    assert [revision.revision for revision in RevisionPage.model_validate_json(output).revisions] == [1, 0]


@pytest.mark.parametrize("name", ["1", "r1"])
def test_show_a_revision(ask: Run, worker: StandIn, name: str) -> None:
    edit = queue_edit(worker.edits)
    worker.edits.take_up(edit.id)
    worker.append(RevisionKind.EDIT, edit=edit.id, blob="blob", drift=DRIFT)
    code, output, _ = ask("show", name)
    assert code == 0
    for part in ("r1", f"edit {edit.id}", "layer 5: 1.23%, layer 6: 0.20%", "1.042 times the base's", "0.0312 nats"):
        assert part in output
    _, output, _ = ask("show", name, "--json")
    assert Revision.model_validate_json(output).drift == DRIFT


def test_show_an_edit(ask: Run, worker: StandIn) -> None:
    edit = queue_edit(worker.edits)
    worker.apply(edit.id)
    code, output, _ = ask("show", edit.id)
    assert code == 0
    assert "is applied, and made revision r1" in output
    code, _, errors = ask("show", "0123456789abcdef")
    assert (code, errors) == (4, "There is no job 0123456789abcdef; list them with: palimpsest jobs\n")


def test_revert_and_reapply(ask: Run, worker: StandIn, http: httpx.Client) -> None:
    first, second = (queue_edit(worker.edits) for _ in range(2))
    for edit in (first, second):
        worker.apply(edit.id)
    code, output, _ = ask("revert", first.id)
    assert code == 0
    assert f"r3 is the head: 1 edit in force, without {first.id}" in output
    assert "1 edit in force was computed with the reverted one present" in output
    assert http.get(f"/edits/{first.id}").json()["status"] == "reverted"
    code, output, _ = ask("reapply", first.id)
    assert f"r4 is the head: 2 edits in force, {first.id} among them" in output
    assert http.get(f"/edits/{first.id}").json()["status"] == "applied"
    _, output, _ = ask("revert", second.id, "--json")
    answer = Reverted.model_validate_json(output)
    assert (answer.revision.active, answer.computed_with_it) == ((first.id,), ())
    assert answer.notice == "No edit in force was computed while this one was."
    assert answer.rescore is not None
    assert answer.rescore.revision == answer.revision.revision
    _, output, _ = ask("revert", first.id, "--json")
    assert Reverted.model_validate_json(output).rescore is None, "nothing is left to score"


def test_rollback(ask: Run, worker: StandIn) -> None:
    code, output, _ = ask("rollback", "r0")
    assert code == 0
    assert "r1 is the head: 0 edits in force, as in r0" in output
    assert "checksum c1" in output
    code, output, _ = ask("rollback", "0", "--json")
    assert Revision.model_validate_json(output).revision == 2
    assert len(worker.asked) == 2
