"""Edits that are measured and never committed, with real processes."""

from collections.abc import Iterator

import pytest

from service.contracts.edits import EditStatus
from tests.conftest import _free_port
from tests.e2e.kit import Place, open_place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with open_place(tmp_path_factory.mktemp("admission"), _free_port) as opened:
        opened.hire()
        yield opened


def test_an_edit_that_misses_its_requirements_is_rejected_with_its_scores(place: Place) -> None:
    before = place.checksums()
    edit = place.ended(place.submit(require={"efficacy": True}).id)
    assert edit.status is EditStatus.REJECTED
    assert edit.problem is not None
    assert edit.problem.type.endswith(":requirements-missed")
    assert "efficacy asks for EA of at least 1, and it is 0" in edit.problem.detail
    assert edit.outcome is not None
    assert (edit.outcome.summary.after.EA, edit.revision, edit.progress) == (0, None, None)
    assert place.checksums() == before
    assert place.redis.zcard(place.keys.pending) == 0


def test_a_dry_run_ends_measured(place: Place) -> None:
    before = place.checksums()
    edit = place.ended(place.submit(dry_run=True).id)
    assert (edit.status, edit.problem, edit.revision) == (EditStatus.MEASURED, None, None)
    assert edit.outcome is not None
    assert edit.outcome.drift is not None
    assert edit.outcome.drift.norms.keys() == {1}
    assert place.checksums() == before
    applied = place.ended(place.submit().id)
    assert applied.outcome is not None
    assert applied.outcome.summary == edit.outcome.summary
    assert place.client.revisions.get(applied.revision or 0).drift == edit.outcome.drift


def test_revert_and_reapply_over_http(place: Place) -> None:
    first, second = (place.ended(place.submit(target_new=target, target_true=None).id) for target in ("Rome", "London"))
    with_both = place.client.model().checksum
    answer = place.client.revert(first.id)
    assert answer.computed_with_it[-1] == second.id
    assert answer.revision.drift is not None
    assert place.client.edits.get(first.id).status is EditStatus.REVERTED
    back = place.client.reapply(first.id)
    assert back.checksum == with_both == place.client.model().checksum
    assert place.client.edits.get(first.id).status is EditStatus.APPLIED
