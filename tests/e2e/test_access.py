"""Keys with real processes: who did what stands in the ledger, and no secret in a log."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.apikeys import ApiKeys
from service.client import Palimpsest
from service.contracts.access import Scope
from service.contracts.edits import EditRequest, EditStatus
from service.errors import ProblemError
from service.ledger import Ledger
from tests.conftest import _free_port
from tests.e2e.kit import FACT, Place, open_place, until

NAMES = ("ada", "grace")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with open_place(tmp_path_factory.mktemp("access"), _free_port, log_format="json") as place:
        place.hire()
        yield place


@pytest.fixture(scope="module")
def tokens(place: Place) -> dict[str, str]:
    return {name: ApiKeys(place.redis).create(name, Scope.EDIT) for name in NAMES}


def test_who_did_what_is_in_the_ledger_and_no_secret_in_a_log(place: Place, tokens: dict[str, str]) -> None:
    url = place.client.server
    with Palimpsest(url, api_key=tokens["ada"]) as ada, Palimpsest(url, api_key=tokens["grace"]) as grace:
        made = ada.edits.submit(EditRequest.model_validate(FACT))
        edit = until(lambda: (now := ada.edits.get(made.id)).status.ended and now, place.says)
        assert edit.status is EditStatus.APPLIED
        grace.revert(made.id)
        ada.reapply(made.id)
        grace.rollback(0)
        revisions = list(reversed(ada.revisions.page().revisions))
        assert [(revision.kind, revision.by) for revision in revisions] == [
            ("base", None),
            ("edit", "ada"),
            ("revert", "grace"),
            ("reapply", "ada"),
            ("rollback", "grace"),
        ]
        assert edit.by == "ada"
        assert revisions[1].request_id == edit.request_id
        assert len({revision.request_id for revision in revisions[1:]}) == 4
        kept = Ledger(place.redis, place.keys).entries()
        assert [entry.by for entry in kept] == [revision.by for revision in revisions]
        _fail_in_every_way(place, tokens["ada"])
    for log in place.root.glob("*.log"):
        said = log.read_text()
        assert "palimpsest_ada." not in said, log
        for token in tokens.values():
            assert token.partition(".")[2] not in said, log
    assert "Traceback" in (place.root / "api.log").read_text(), "nothing has failed that could have told a secret"


def _fail_in_every_way(place: Place, token: str) -> None:
    """What is logged when something goes wrong: a defect, a bad body, a wrong key."""
    good = {"Authorization": f"Bearer {token}"}
    card = place.redis.get(place.keys.card)
    place.redis.set(place.keys.card, "not a card")
    try:
        assert place.http.get("/model", headers=good).status_code == 500
    finally:
        place.redis.set(place.keys.card, card)
    assert place.http.post("/edits", content=token, headers=good).status_code in (400, 422)
    assert place.http.get("/edits", headers={"Authorization": f"Bearer {token}x"}).status_code == 401
    assert place.http.get(f"/edits/{token}", headers=good).status_code == 404


def test_without_a_key_nothing_is_done(place: Place, tokens: dict[str, str]) -> None:
    assert tokens
    before = Ledger(place.redis, place.keys).head()
    with Palimpsest(place.client.server, api_key="palimpsest_ada.wrong") as nobody:
        for ask in (nobody.model, lambda: nobody.rollback(0), lambda: nobody.edits.submit(EditRequest(**FACT))):
            with pytest.raises(ProblemError) as refused:
                ask()
            assert refused.value.problem.status == 401
    assert Ledger(place.redis, place.keys).head() == before


def test_an_api_for_all_the_world_does_not_start_without_a_key(place: Place, tmp_path: Path) -> None:
    others = place.url.removesuffix("/0") + "/1"
    env = {**os.environ, "REDIS_URL": others, "PALIMPSEST_HOST": "0.0.0.0", "PALIMPSEST_PORT": "0"}  # noqa: S104
    command = [sys.executable, "-m", "service.cli", "api", "--data-dir", str(tmp_path)]
    answer = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 1
    assert "palimpsest keys create NAME" in answer.stderr
    assert "Traceback" not in answer.stderr
